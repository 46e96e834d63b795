"""The ids that this node has had: one a process, remembered so that it knows its own transactions again."""

from __future__ import annotations

import os
from pathlib import Path

from litefs.errors import LTXError
from litefs.ltx import parse_txid
from litefs.store.syncing import sync_directory

FILE_NAME = "nodeids"
KEPT = 256  # ids; more starts than that between a transaction and the day it is asked for are not expected


def known(data_dir: Path) -> set[int]:
    """Every id remembered."""
    try:
        words = (data_dir / FILE_NAME).read_text("ascii", "replace").split()
    except FileNotFoundError:
        return set()
    return {node_id for word in words if (node_id := _parse(word))}


def remember(data_dir: Path, node_id: int) -> None:
    """Add the id of this process. Durable when it returns: transactions that carry the id come later.

    Raises:
        OSError: the disk refused.
    """
    path = data_dir / FILE_NAME
    try:
        words = [word for word in path.read_text("ascii", "replace").split() if _parse(word)]
    except FileNotFoundError:
        words = []
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", encoding="ascii") as file:
        file.writelines(f"{word}\n" for word in [*words[1 - KEPT :], f"{node_id:016x}"])
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(data_dir)


def _parse(word: str) -> int:
    try:
        return parse_txid(word)  # of the same form
    except LTXError:
        return 0
