"""``litefs status``."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence

import click

from litefs.cli.access import Access, node_flags
from litefs.cli.flags import go_command, switch
from litefs.cli.rows import plain, table
from litefs.cli.safekeeping import backup_lines, backup_warnings
from litefs.cli.survey import Json, NodeStatus, problems, survey


@go_command("status")
@node_flags
@switch("json", help="Print JSON.")
def command(access: Access, json: bool) -> int:
    """Show the nodes of the cluster: roles, lag, the position of every database on each, and the backup.

    Exit code 1 when there is no primary, more than one, a node does not answer, or a disk has failed to store a
    database.
    """
    nodes = survey(access)
    wrong = problems(nodes)
    if json:
        click.echo(json_format.dumps(as_json(nodes, wrong), indent=2))
    else:
        for line in report(nodes):
            click.echo(line)
        for problem in [*wrong, *backup_warnings(nodes)]:
            click.echo(f"WARNING: {plain(problem)}", err=True)
    return 1 if wrong else 0


def as_json(nodes: Sequence[NodeStatus], wrong: Sequence[str]) -> Json:
    """Everything that is known, for programs."""
    primary = next((node for node in nodes if node.is_primary), None)
    return {
        "clusterID": next((node.cluster_id for node in nodes if node.cluster_id), ""),
        "healthy": not wrong,
        "problems": list(wrong),
        "primary": primary.name if primary is not None else None,
        "nodes": [
            {
                "hostname": node.hostname,
                "id": node.id,
                "url": node.url,
                "reachable": not node.error,
                "error": node.error,
                "role": node.role or None,
                "candidate": node.candidate,
                "ready": node.ready,
                "lagMs": node.lag_ms,
                "databases": node.databases,
                "status": node.answer or None,
            }
            for node in nodes
        ],
    }


def report(nodes: Sequence[NodeStatus]) -> list[str]:
    """The same for people."""
    cluster = next((node.cluster_id for node in nodes if node.cluster_id), "none yet")
    leases = {str(node.answer["leaseType"]) for node in nodes if "leaseType" in node.answer}
    lines = [plain(f"cluster {cluster}" + (f", {' and '.join(sorted(leases))} lease" if leases else "")), ""]
    rows = [("NODE", "ROLE", "CANDIDATE", "READY", "LAG", "ID", "ADDRESS")]
    rows += [
        (
            node.name,
            "unreachable" if node.error else node.role,
            _yes(node.candidate),
            _ready(node),
            "-" if node.lag_ms is None else f"{node.lag_ms} ms",
            node.id or "-",
            node.url or "-",
        )
        for node in nodes
    ]
    lines += table(rows)
    databases = _databases(nodes)
    if len(databases) > 1:
        lines += ["", *table(databases)]
    backups = [plain(line) for line in backup_lines(nodes)]
    return [*lines, "", *backups] if backups else lines


def _databases(nodes: Sequence[NodeStatus]) -> list[tuple[str, ...]]:
    """A row for each database, with its position on each node that tells."""
    telling = [node for node in nodes if node.databases is not None and not node.error]
    names = sorted({name for node in telling for name in node.databases or ()})
    reference = next((node for node in telling if node.is_primary), None)
    rows = [("DATABASE", "PAGES", *(node.name for node in telling))]
    for name in names:
        leader = (reference.databases or {}).get(name) if reference is not None else None
        held = [(node.databases or {}).get(name) for node in telling]
        pages = next((str(item["pages"]) for item in [leader, *held] if item and item.get("pages") is not None), "-")
        rows.append((name, pages, *(_position(item, leader) for item in held)))
    return rows


def _position(item: Json | None, leader: Json | None) -> str:
    if item is None:
        return "-"
    txid = _number(item)
    text = f"{txid:x}" + (", halted" if item.get("halted") else "") + (", disk failed" if item.get("failed") else "")
    if leader is None or item is leader:
        return text
    behind = _number(leader) - txid
    if behind > 0:
        return f"{text}, {behind} behind"
    if behind == 0 and item.get("checksum") != leader.get("checksum"):
        return f"{text}, differs"
    return text


def _number(item: Json) -> int:
    try:
        return int(str(item.get("txid", "0")), 16)
    except ValueError:
        return 0


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _ready(node: NodeStatus) -> str:
    reason = str(node.answer.get("reason", ""))
    return f"no: {reason}" if node.ready is False and reason else _yes(node.ready)
