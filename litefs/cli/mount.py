"""``litefs mount``."""

from __future__ import annotations

import logging
import signal
from dataclasses import replace

import click
import trio

from litefs.cli.flags import flag, go_command, passed_through, switch
from litefs.config import load
from litefs.logging import configure
from litefs.node import Node
from litefs.supervisor import from_arguments

log = logging.getLogger(__name__)


@go_command("mount", passthrough=True)
@flag("config", default="", metavar="PATH", help="Read this litefs.yml instead of looking for one.")
@switch("no-expand-env", help="Take ${...} in litefs.yml literally.")
@switch("debug", help="Log more, as log.debug does.")
@switch("tracing", help="The same as -debug.")
@switch("fuse.debug", help="Log every FUSE request, as fuse.debug does.")
@switch("skip-unmount", help="Accepted for LiteFS's sake: only a dead mount is ever removed at start.")
@click.pass_context
def command(
    ctx: click.Context,
    config: str,
    no_expand_env: bool,
    debug: bool,
    tracing: bool,
    fuse_debug: bool,
    skip_unmount: bool,
) -> int:
    """Mount the file system and run the node: litefs mount [FLAGS] [-- COMMAND...]

    COMMAND replaces what litefs.yml has under exec. The node lives as long as it does, and passes its exit code on.
    """
    # As long as there is no node that could end cleanly there is nothing to clean up: die at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    settings = load(config or None, not no_expand_env, announce=lambda text: print(text, flush=True))
    if fuse_debug:
        settings = replace(settings, fuse=replace(settings.fuse, debug=True))
    configure(
        format=settings.log.format,
        timestamp=settings.log.timestamp,
        debug=settings.log.debug or debug or tracing,
    )
    for warning in settings.warnings:
        log.warning(warning)
    arguments = passed_through(ctx)
    node = Node(settings, commands=[from_arguments(arguments)] if arguments else None)
    return trio.run(node.run)
