"""``litefs branches``: what the cluster went on without, and a node has kept.

Works on the data directory alone, whether the node is running or not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from litefs.cli.datadir import data_directory, directory_flags
from litefs.cli.flags import flag, go_command, switch
from litefs.cli.rows import table
from litefs.errors import LitefsError
from litefs.store import branches as kept
from litefs.store import branchfile
from litefs.store.branches import Branch, Reason


@click.group("branches", context_settings={"help_option_names": ["-h", "-help", "--help"]})
def command() -> None:
    """List, export or discard transactions that this node has and the cluster went on without."""


@go_command("list")
@directory_flags
@switch("json", help="print JSON")
def list_(config: str, data_dir: str, json: bool) -> None:
    """Print every branch: what it is, which transactions it holds, when it was kept."""
    found = kept.branches(data_directory(config, data_dir))
    if json:
        _print_json(found)
        return
    if not found:
        click.echo("no branches")
        return
    rows = [("NAME", "REASON", "TRANSACTIONS", "LAST", "PAGES", "SIZE", "EXPORT")]
    rows += [
        (
            branch.name,
            branch.reason,
            branch.span(),
            branch.tip_time or "-",
            _pages(branch),
            _size(branch.size()),
            "yes" if kept.is_exportable(branch) else "no",
        )
        for branch in found
    ]
    for line in table(rows):
        click.echo(line)


def _pages(branch: Branch) -> str:
    if branch.changed_pages < 0:
        return str(branch.pages or "-")
    return f"{branch.pages}, {branch.changed_pages} differ"


def _size(size: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 10_000:
            return f"{size} {unit}"
        size = (size + 512) // 1024
    return f"{size} GiB"


def _print_json(found: list[Branch]) -> None:
    click.echo(json.dumps([_as_json(branch) for branch in found], indent=2))


def _as_json(branch: Branch) -> dict[str, object]:
    ranges = branch.ranges()
    return {
        "name": branch.name,
        "database": branch.database,
        "reason": branch.reason,
        "time": branch.time,
        "tip": branch.tip,
        "tipTime": branch.tip_time,
        "files": [f"{low:016x}-{high:016x}" for low, high in ranges],
        "pageSize": branch.page_size,
        "pages": branch.pages,
        "changedPages": branch.changed_pages if branch.changed_pages >= 0 else None,
        "base": branch.base,
        "replacedBy": branch.replaced_by,
        "replacedByNode": branch.replaced_by_node,
        "node": branch.node,
        "hostname": branch.hostname,
        "clusterID": branch.cluster_id,
        "note": branch.note,
        "bytes": branch.size(),
        "exportable": kept.is_exportable(branch),
        "path": str(branch.path),
    }


@go_command("export")
@directory_flags
@flag("o", default="", metavar="FILE", help="file to write; default: DATABASE-TXID.db in this directory")
@click.argument("name")
def export(config: str, data_dir: str, o: str, name: str) -> None:
    """Write the database as it was at the end of branch NAME to a SQLite file.

    NAME is what list prints, its second half, or the start of either.
    """
    branch = kept.find(data_directory(config, data_dir), name)
    target = o or _default(branch)
    if branch.reason == Reason.DAMAGED:
        files = branchfile.copy_damaged(branch, Path(target))
        click.echo(f"copied {', '.join(map(str, files))} as found; not checked, try: sqlite3 {target} .recover")
        return
    from litefs.cli.replacing import replacing

    branch.chain()  # what is missing is said before a file is touched
    with replacing(target) as file:
        branchfile.write(branch, file)
    click.echo(f"{target}: {branch.database} at {branch.tip}, last changed {branch.tip_time}")
    click.echo(_difference(branch))


def _default(branch: Branch) -> str:
    target = f"{branch.database}-{branch.tip.partition('/')[0] or branch.id}.db"
    if os.path.exists(target):
        raise LitefsError(f"{target} exists", "name another file with -o; one named so is replaced")
    return target


def _difference(branch: Branch) -> str:
    pages = f" in {branch.changed_pages} of {branch.pages} pages" if branch.changed_pages >= 0 else ""
    sender = f" of node {branch.replaced_by_node}" if branch.replaced_by_node else ""
    return f"it differs from {branch.replaced_by}{sender}, which replaced it at {branch.time},{pages or ' somewhere'}"


@go_command("discard")
@directory_flags
@click.argument("name")
def discard(config: str, data_dir: str, name: str) -> None:
    """Delete branch NAME for good."""
    branch = kept.find(data_directory(config, data_dir), name)
    kept.discard(branch)
    click.echo(f"discarded {branch.name}")


for _subcommand in (list_, export, discard):
    command.add_command(_subcommand)
