"""A database and a backup in memory, for tests of either side of `litefs.backup.BackupClient`.

history = History()
first = history.commit({1: b"...", 2: b"..."})      # the bytes of an LTX file
backup = MemoryBackup()
await backup.write("my.db", pieces(first))
backup.available = False                            # every call raises BackupError
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from litefs import ltx
from litefs.backup import BackupError, DatabaseRefused, PositionConflict
from litefs.errors import LTXError
from litefs.ltx import EMPTY, FLAG_LZ4, Header, Pos

NOWHERE = Pos(0, 0)


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Bytes as they come over a network."""
    for at in range(0, len(data), size):
        await trio.lowlevel.checkpoint()
        yield data[at : at + size]


class History:
    """A database that makes LTX files of what is done to it.

    Attributes:
        pages: its content, by page number.
        pos: where it stands.
    """

    def __init__(self, page_size: int = 512) -> None:
        self.page_size = page_size
        self.pages: dict[int, bytes] = {}
        self.pos = NOWHERE
        self.timestamp = 1_700_000_000_000

    def commit(self, changes: Mapping[int, bytes], *, size: int | None = None, page_size: int = 0) -> bytes:
        """One transaction.

        Args:
            changes: the new content of pages; short ones are filled up, and so are those before the last.
            size: pages of the database afterwards, if it is cut.
            page_size: another page size from now on; then all pages must be given.
        """
        before = self.pos
        if page_size:
            self.page_size, self.pages = page_size, {}
        beyond = range(len(self.pages) + 1, max(changes, default=0))
        changes = {**dict.fromkeys(beyond, b""), **changes}
        new = {pgno: data.ljust(self.page_size, b"\0")[: self.page_size] for pgno, data in sorted(changes.items())}
        self.pages.update(new)
        commit = max(self.pages, default=0) if size is None else size
        self.pages = {pgno: data for pgno, data in self.pages.items() if pgno <= commit}
        self.timestamp += 1000
        self.pos = Pos(before.txid + 1, self.checksum)
        head = self._header(before, commit)
        return ltx.encode(head, [(pgno, data) for pgno, data in new.items() if pgno <= commit], self.pos.checksum)

    def delete(self) -> bytes:
        """The transaction that deletes it."""
        return self.commit({}, size=0)

    def snapshot(self) -> bytes:
        """Its present state as a snapshot."""
        return ltx.encode(self._header(NOWHERE, len(self.pages)), sorted(self.pages.items()), self.pos.checksum)

    @property
    def checksum(self) -> int:
        """Of its content."""
        return ltx.database_checksum([ltx.page_checksum(pgno, data) for pgno, data in self.pages.items()])

    def _header(self, before: Pos, commit: int) -> Header:
        return Header(
            page_size=self.page_size,
            commit=commit,
            min_txid=before.txid + 1,
            max_txid=self.pos.txid,
            flags=FLAG_LZ4,
            timestamp=self.timestamp,
            pre_apply=before.checksum,
            node_id=1,
        )


class MemoryBackup:
    """A `litefs.backup.BackupClient` that keeps everything in memory.

    Args:
        databases: what it holds, to be shared with the client of another node; LTX files in order, by name.

    Attributes:
        available: false makes every call fail.
    """

    url = "memory:"

    def __init__(self, databases: dict[str, list[bytes]] | None = None) -> None:
        self.databases: dict[str, list[bytes]] = {} if databases is None else databases
        self.available = True

    async def positions(self) -> dict[str, Pos]:
        """Where each database stands."""
        await self._reach()
        return {name: self._position(name) for name in self.databases}

    async def write(self, name: str, ltx: AsyncIterator[bytes]) -> int:
        """Keep a file."""
        await self._reach()
        data = b"".join([piece async for piece in ltx])
        head = _verify(data)
        pos = self._position(name)
        if not (pos == NOWHERE if head.is_snapshot else head.pos_before == pos):
            raise PositionConflict(pos)
        self.databases.setdefault(name, []).append(data)
        return head.max_txid

    @asynccontextmanager
    async def snapshot(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """All files of a database as one."""
        await self._reach()
        if name not in self.databases:
            raise DatabaseRefused(f'database not found: "{name}"')
        yield pieces(merge(self.databases[name]))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _position(self, name: str) -> Pos:
        files = self.databases.get(name)
        if not files:
            return NOWHERE
        head, trailer = ltx.read_info(io.BytesIO(files[-1]))
        return Pos(head.max_txid, trailer.post_apply)

    async def _reach(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.available:
            raise BackupError("the backup in memory is switched off")


def _verify(data: bytes) -> Header:
    try:
        return ltx.verify(io.BytesIO(data))[0]
    except LTXError as error:
        raise DatabaseRefused(str(error)) from error


def merge(files: list[bytes]) -> bytes:
    """A snapshot of the state that consecutive LTX files lead to, the first of which is a snapshot."""
    state: dict[int, bytes] = {}
    page_size, head, trailer = 0, None, None
    for data in files:
        decoder = ltx.Decoder(io.BytesIO(data))
        head = decoder.header
        if head.page_size != page_size or head.is_snapshot:
            state, page_size = {}, head.page_size
        state.update((pgno, bytes(page)) for pgno, page in decoder)
        state = {pgno: page for pgno, page in state.items() if pgno <= head.commit}
        trailer = decoder.trailer
    assert head is not None
    assert trailer is not None
    whole = Header(
        page_size=page_size, commit=head.commit, min_txid=1, max_txid=head.max_txid, timestamp=head.timestamp
    )
    checksum = ltx.database_checksum([ltx.page_checksum(pgno, page) for pgno, page in state.items()])
    assert checksum == trailer.post_apply or not state
    return ltx.encode(whole, sorted(state.items()), checksum if state else EMPTY)
