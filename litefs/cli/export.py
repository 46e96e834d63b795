"""``litefs export``."""

from __future__ import annotations

import os
import time
from typing import BinaryIO

import click

from litefs.cli.access import Access, node_flags
from litefs.cli.api import APIError
from litefs.cli.flags import flag, go_command
from litefs.cli.replacing import replacing
from litefs.cli.transfers import Transfers, duration, progress_bar
from litefs.errors import FormatError
from litefs.http import database_file


@go_command("export")
@flag("name", required=True, metavar="NAME", help="Name of the database on the node.")
@node_flags
@click.argument("path", type=click.Path())
def command(name: str, access: Access, path: str) -> None:
    """Write a consistent copy of a database to the file PATH while it is in use.

    A file that is there already is replaced once the copy is complete.
    """
    started = time.monotonic()
    with Transfers(access) as node, replacing(path) as file, progress_bar(f"exporting {name}") as start:
        node.export_database(name, file, start)
        _check_complete(file)
    print(f'Export of database "{name}" in {duration(time.monotonic() - started)}')


def _check_complete(file: BinaryIO) -> None:
    """LiteFS ends an export that fails half-way as if it had succeeded, with the message in the file."""
    file.flush()
    try:
        size = database_file.check(file.fileno())
    except FormatError as error:
        raise APIError("the node sent an incomplete database", str(error)) from None
    if size != os.fstat(file.fileno()).st_size:
        raise APIError("the node sent more than the database", "see its log")
