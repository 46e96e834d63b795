"""Which data directory a command works on, where it asks no node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from litefs.cli.flags import flag
from litefs.errors import ConfigError


def directory_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags for `data_directory`; the function gets their values as ``config`` and ``data_dir``."""
    function = flag("data-dir", default="", metavar="DIR", help="data directory; default: data.dir of litefs.yml")(
        function
    )
    return flag("config", default="", metavar="PATH", help="litefs.yml to take data.dir from")(function)


def data_directory(config: str, data_dir: str) -> Path:
    """The data directory that is meant. Raises ConfigError."""
    if data_dir:
        path = Path(data_dir)
    else:
        from litefs.config import load  # late: not needed with -data-dir

        path = load(config or None).data.dir
    if not path.is_dir():
        raise ConfigError(f"no data directory {path}", "name it with -data-dir, or a litefs.yml with -config")
    return path
