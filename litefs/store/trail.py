"""Positions that a database has been at, so that one which somebody names can be told from one of another history.

Of two nodes that went on from the same position, each by itself, both have the next TXID: only the checksums differ. So
a TXID alone does not say whether a database holds what it had when somebody saw it there.

Kept in memory are the last ones, in a ring: noting one and looking one up cost the same however many there are. Older
ones are in the LTX files as long as those are kept.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import trio

from litefs.errors import LTXError
from litefs.ltx import TRAILER_SIZE, Pos, Trailer
from litefs.store.ltxdir import LTXDir

SIZE = 1 << 15
"""Positions in memory, 16 bytes each: those of the last minutes of a busy database."""


class Place(Enum):
    """Where a position is, seen from the present one."""

    HERE = "here"  # the database has been there, and has gone on from it
    AHEAD = "ahead"  # its TXID has not come yet
    ELSEWHERE = "elsewhere"  # the database had another checksum at that TXID: the position is of another history
    FORGOTTEN = "forgotten"  # nothing here says any more what the checksum was


class Trail:
    """The positions of one database.

    Args:
        ltx_dir: of the database.
        pos: its present position.

    Attributes:
        replaced: set, and replaced, when a snapshot has replaced the history: what was elsewhere may be here now.
    """

    def __init__(self, ltx_dir: LTXDir, pos: Callable[[], Pos]) -> None:
        self._ltx_dir = ltx_dir
        self._pos = pos
        self.replaced = trio.Event()
        self.clear()

    def clear(self) -> None:
        """A snapshot replaces everything: what the database was before may be of another history."""
        self._txids = array("Q", bytes(8 * SIZE))
        self._checksums = array("Q", bytes(8 * SIZE))
        self.replaced.set()
        self.replaced = trio.Event()

    def note(self, pos: Pos) -> None:
        """The database is there now."""
        slot = pos.txid % SIZE
        self._txids[slot], self._checksums[slot] = pos

    def look(self, pos: Pos) -> Place:
        """Where a position is, as far as memory says."""
        now = self._pos()
        if pos.txid >= now.txid:
            if pos.txid > now.txid:
                return Place.AHEAD
            return Place.HERE if pos.checksum == now.checksum else Place.ELSEWHERE
        slot = pos.txid % SIZE
        if self._txids[slot] != pos.txid:
            return Place.FORGOTTEN
        return Place.HERE if pos.checksum == self._checksums[slot] else Place.ELSEWHERE

    async def search(self, pos: Pos) -> Place:
        """Where a position is, as far as memory and the LTX files say."""
        while (place := self.look(pos)) is Place.FORGOTTEN:
            history, path = self.replaced, self._ltx_dir.leading_to(pos.txid)
            checksum = await trio.to_thread.run_sync(_checksum_after, path) if path is not None else 0
            if history is not self.replaced or pos.txid >= self._pos().txid:
                continue  # it changed meanwhile
            if not checksum:
                return place
            if self._txids[pos.txid % SIZE] < pos.txid:
                self.note(Pos(pos.txid, checksum))
            return Place.HERE if pos.checksum == checksum else Place.ELSEWHERE
        return place


def _checksum_after(path: Path) -> int:
    """Checksum of the database after the transactions of an LTX file; 0 where the file does not say.  Blocking."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(-TRAILER_SIZE, os.SEEK_END)
            return Trailer.decode(file.read(TRAILER_SIZE)).post_apply
    except (OSError, LTXError):
        return 0  # retention has removed it meanwhile
