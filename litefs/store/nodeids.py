"""The ids that this node has had: one a process, remembered so that it knows its own transactions again."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from litefs.errors import LTXError
from litefs.ltx import parse_txid
from litefs.store.syncing import sync_directory

log = logging.getLogger(__name__)

FILE_NAME = "nodeids"
KEPT = 256  # ids; more starts than that between a transaction and the day it is asked for are not expected


def known(data_dir: Path) -> set[int]:
    """Every id remembered."""
    return set(_read(data_dir))


def _read(data_dir: Path) -> list[int]:
    try:
        words = (data_dir / FILE_NAME).read_text("ascii", "replace").split()
    except FileNotFoundError:
        return []
    return [node_id for word in words if (node_id := _parse(word))]


def remember(data_dir: Path, node_id: int) -> int:
    """Add the id of this process. Durable when it returns: transactions that carry the id come later.

    Returns:
        the id to go by: where a disk takes no other, that of the process before. A transaction with an id that nobody
        remembers would be taken for another node's at the next start.

    Raises:
        OSError: the disk refused, and there was none before.
    """
    ids = _read(data_dir)
    try:
        _write(data_dir / FILE_NAME, [*ids[1 - KEPT :], node_id])
    except OSError as error:
        if not ids:
            text = f"{data_dir}: a new node cannot write there: {error.strerror}; make room, or set another data.dir"
            raise OSError(error.errno, text) from error
        log.warning("%s: cannot add this process, going by the id of the one before: %s", FILE_NAME, error)
        return ids[-1]
    return node_id


def _write(path: Path, ids: list[int]) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", encoding="ascii") as file:
        file.writelines(f"{node_id:016x}\n" for node_id in ids)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def _parse(word: str) -> int:
    try:
        return parse_txid(word)  # of the same form
    except LTXError:
        return 0
