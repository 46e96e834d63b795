"""``litefs import``."""

from __future__ import annotations

import os
import sys
import time

import click

from litefs.cli.access import Access, node_flags
from litefs.cli.flags import flag, go_command
from litefs.cli.transfers import Transfers, duration, progress_bar


@go_command("import")
@flag("name", required=True, metavar="NAME", help="Name of the database on the node.")
@node_flags
@click.argument("path", type=click.Path())
def command(name: str, access: Access, path: str) -> None:
    """Replace a database by the SQLite file PATH, or create it, as one transaction.

    The file should not be in use: what lies in its WAL is not imported.
    """
    started = time.monotonic()
    with open(path, "rb", buffering=0) as file, Transfers(access) as node:
        _warn_about_wal(path)
        size = os.fstat(file.fileno()).st_size
        with progress_bar(f"importing {name}") as start:
            node.import_database(name, file, size, start(size))
    print(f'Import of database "{name}" in {duration(time.monotonic() - started)}')


def _warn_about_wal(path: str) -> None:
    try:
        left = os.path.getsize(f"{path}-wal")
    except OSError:
        return
    if left:
        hint = f"run: sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'"
        print(f"WARNING: transactions in {path}-wal are not imported; {hint}", file=sys.stderr)
