"""``litefs cloud``: a server with LiteFS Cloud's API, to which clusters of LiteFS and litefs back up."""

from __future__ import annotations

from collections.abc import Sequence

from litefs.extensions import CommandSpec
from litefs.hookspecs import hookimpl


@hookimpl
def litefs_commands() -> Sequence[CommandSpec]:
    return [CommandSpec("cloud", "litefs_cloud_server.command:command", "serve backups to clusters; their tokens")]
