"""``litefs demote``."""

from __future__ import annotations

import re
import time

import click

from litefs.cli.access import Access, node_flags
from litefs.cli.api import APIError, NodeAPI, NotFound
from litefs.cli.flags import flag, go_command
from litefs.cli.leadership import step_down
from litefs.cli.survey import ask, survey
from litefs.cli.transfers import duration

NODE_ID = re.compile(r"[0-9A-Fa-f]{16}")


@go_command("demote")
@flag("target", default="", metavar="NODE", help="Who shall take over: a host name, id or URL; default: who has most.")
@node_flags
def command(target: str, access: Access) -> int:
    """Have the primary at -url hand over to another node, and wait until that one is primary.

    Where no other candidate is connected it gives up its lease and does not take it again for lease.demote-delay.
    """
    started = time.monotonic()
    here = ask(access)
    if not here.is_primary:
        known = here.answer.get("primary")
        primary = (
            f"the primary is {known.get('hostname')}" if isinstance(known, dict) and known else "it knows no primary"
        )
        raise APIError(f"{here.name} is not primary", f"{primary}; name the primary with -url")
    node_id = _id(access, target) if target else ""
    with NodeAPI(access) as node:
        try:
            successor = step_down(node, node_id)
        except NotFound:
            hint = "make another node primary: litefs promote -target NODE"
            raise APIError(f"{here.name} is a node of LiteFS, which does not step down on request", hint) from None
    took = duration(time.monotonic() - started)
    if not successor:
        click.echo(f"{here.name} is no longer primary, after {took}; no other node has taken over", err=True)
        return 1
    click.echo(f"{here.name} is no longer primary, {successor} is, after {took}")
    return 0


def _id(access: Access, target: str) -> str:
    """Id of the node that is meant."""
    if NODE_ID.fullmatch(target):
        return target.upper()
    nodes = [node for node in survey(access) if node.is_called(target)]
    if len(nodes) != 1 or not nodes[0].id:
        why = "several nodes are" if len(nodes) > 1 else "no node that can take over is"
        raise APIError(f"{why} called {target}", "see: litefs status")
    return nodes[0].id
