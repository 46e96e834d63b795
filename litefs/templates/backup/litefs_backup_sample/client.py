"""The contract of `litefs.backup.BackupClient`, on a `Shelf`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from litefs import ltx
from litefs.backup import BackupError, DatabaseRefused, PositionConflict
from litefs.backup.folding import fold
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs_backup_sample.shelf import Shelf

T = TypeVar("T")

NOWHERE = Pos(0, 0)
"""Where a database stands that the backup does not have."""

PIECE = 1 << 16
"""Bytes handed out at a time."""


class SampleClient:
    """A backup on a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    @property
    def url(self) -> str:
        """Where it is, for the log."""
        return self._shelf.url

    async def positions(self) -> dict[str, Pos]:
        """Where each database stands.  Raises BackupError."""
        return await _in_thread(self._positions)

    def _positions(self) -> dict[str, Pos]:
        found = {name: self._position(name) for name in self._shelf.databases()}
        return {name: pos for name, pos in found.items() if pos != NOWHERE}

    async def write(self, name: str, ltx: AsyncIterator[bytes]) -> int:
        """Store an LTX file as a whole, or nothing of it.  Raises PositionConflict, DatabaseRefused, BackupError."""
        with _scratch() as folder:
            with open(folder / "file.ltx", "wb") as file:
                async for piece in ltx:
                    file.write(piece)
            return await _in_thread(partial(self._store, name, folder / "file.ltx"))

    def _store(self, name: str, path: Path) -> int:
        """Keep a file if it is sound and follows; its last transaction."""
        with _blamed(name), open(path, "rb") as file:
            head, _ = ltx.verify(file, name)
        pos = self._position(name)
        follows = pos == NOWHERE if head.is_snapshot else head.pos_before == pos
        # Looked at and then added: of two nodes that both found the same position, `add` admits one.
        if not follows or not self._shelf.add(name, head.min_txid, path):
            raise PositionConflict(self._position(name))
        return head.max_txid

    @asynccontextmanager
    async def snapshot(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The newest state of a database as one LTX file.  Raises DatabaseRefused, BackupError."""
        with _scratch() as folder:
            whole = await _in_thread(partial(self._fold, name, folder))
            with open(whole, "rb") as file:
                yield _pieces(partial(file.read, PIECE))

    def _fold(self, name: str, folder: Path) -> Path:
        """All files of a database as one snapshot, on the local disk."""
        files = []
        for txid in self._shelf.files(name):
            files.append(folder / f"{txid}.ltx")
            self._shelf.fetch(name, txid, files[-1])
        if not files:
            raise DatabaseRefused(f'database not found: "{name}"')
        with _blamed(name), open(folder / "whole.ltx", "wb") as output:
            fold(files, output, compress=True)
        return folder / "whole.ltx"

    def _position(self, name: str) -> Pos:
        """Where a database stands: after the transactions of its newest file."""
        files = self._shelf.files(name)
        if not files:
            return NOWHERE
        with _scratch() as folder:
            self._shelf.fetch(name, files[-1], folder / "file.ltx")
            with _blamed(name), open(folder / "file.ltx", "rb") as file:
                head, trailer = ltx.read_info(file, name)
        return Pos(head.max_txid, trailer.post_apply)

    async def aclose(self) -> None:
        """Nothing is open."""


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="litefs-backup-") as folder:
        yield Path(folder)


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    """A damaged file, here or there, is this database's fault; a failing disk is the backup's."""
    try:
        yield
    except LTXError as error:
        raise DatabaseRefused(f"{name}: {error.message}") from error
    except OSError as error:
        raise BackupError(f"{name}: {os.strerror(error.errno or 0)}") from error


async def _pieces(read: Callable[[], bytes]) -> AsyncIterator[bytes]:
    while piece := await _in_thread(read):
        yield piece


async def _in_thread(call: Callable[[], T]) -> T:
    # Not left behind when the call is cancelled: what it does to the backup must be over before the next call.
    return await trio.to_thread.run_sync(call)
