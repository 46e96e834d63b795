"""``litefs version``."""

from __future__ import annotations

from litefs import __version__
from litefs.cli.flags import go_command


@go_command("version")
def command() -> None:
    """Print the version."""
    print(f"LiteFS v{__version__}")
