"""``litefs promote``."""

from __future__ import annotations

import time

import click

from litefs.cli.access import Access, node_flags
from litefs.cli.api import NodeAPI
from litefs.cli.flags import flag, go_command
from litefs.cli.leadership import become_primary
from litefs.cli.survey import resolve
from litefs.cli.transfers import duration


@go_command("promote")
@flag("target", default="", metavar="NODE", help="Another node than the one at -url: its host name, id or URL.")
@node_flags
def command(target: str, access: Access) -> None:
    """Make a node the primary: the one at -url, or the one that -target names.

    The present primary hands over; writes wait meanwhile. Returns when it is done.
    """
    started = time.monotonic()
    with NodeAPI(resolve(access, target) if target else access) as node:
        changed = become_primary(node)
        name = target or node.url
    took = f" after {duration(time.monotonic() - started)}" if changed else " already"
    click.echo(f"{name} is primary{took}")
