"""What is handed to a backup: merged transactions, or a whole database, as the bytes of one LTX file.

Everything is read in worker threads from files that no longer change, so an upload holds no lock and delays no
commit, however slow the network is. Only a snapshot that cannot be merged from LTX files has to look at the database
itself: it is copied to a temporary file first, at the speed of the disk, and sent from there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs import ltx
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs.replication import catchup, snapshotfile
from litefs.replication.hold import Hold
from litefs.replication.pipes import PIECE, FromThread, Output

if TYPE_CHECKING:
    from litefs.store import Database, Store
    from litefs.store.ltxdir import Range

MAX_FILES = 256
"""Transaction files merged into one upload, as in LiteFS."""

STALL_LIMIT = 24 * 3600.0
"""Seconds that one upload may take; a client notices a connection that does not move much sooner."""

PUBLISH_LIMIT = 30.0
"""Seconds for what a snapshot holds to become durable here."""

NOTHING = Pos(0, 0)

Write = Callable[[bytes | memoryview], None]


class FilesMissing(Exception):
    """The files that lead from the backup's position to ours are not all here, or lead from another state."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that can be merged into one, and where they lead."""

    paths: Sequence[Path]
    pos: Pos
    size: int  # bytes of the files


async def next_batch(database: Database, after: Pos) -> Batch:
    """The files that follow a position, as many as go into one upload.

    Raises:
        FilesMissing: there are none.
        LTXError, OSError: they cannot be read.
    """
    files = _files(database, after.txid, database.published.txid)
    if not files:
        raise FilesMissing("ltx-not-found", f"transaction file for txid {after.txid + 1:016x} is not here any more")
    return await trio.to_thread.run_sync(_examine, files, after)


def _files(database: Database, after: int, up_to: int) -> list[tuple[Range, Path]]:
    found: list[tuple[Range, Path]] = []
    while len(found) < MAX_FILES and (more := catchup.next_files(database.ltx_dir, after, up_to)):
        found += more
        after = found[-1][0][1]
    return found[:MAX_FILES]


def _examine(files: Sequence[tuple[Range, Path]], after: Pos) -> Batch:
    """How many of the files can be merged. Blocking."""
    paths: list[Path] = []
    pos, size, page_size = after, 0, 0
    for item, path in files:
        try:
            with open(path, "rb") as file:
                head, trailer = ltx.read_info(file, path.name)
                length = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            if not paths:
                raise FilesMissing("ltx-not-found", f"{path.name} is not here any more") from None
            break
        if (head.min_txid, head.max_txid) != item:
            raise LTXError(f"{path.name}: holds other transactions than its name says")
        if head.pos_before != pos and not (head.is_snapshot and pos == NOTHING):
            if not paths:
                raise FilesMissing("out-of-sync", f"{path.name} follows {head.pos_before}, not {pos}")
            break
        if page_size and head.page_size != page_size:
            break
        page_size = head.page_size
        pos = Pos(head.max_txid, trailer.post_apply)
        paths.append(path)
        size += length
    return Batch(paths, pos, size)


@asynccontextmanager
async def merged(store: Store, batch: Batch) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of one LTX file in place of several."""
    async with _piped(partial(_compact, batch.paths, store.compress)) as pieces:
        yield pieces


def _compact(paths: Sequence[Path], compress: bool, write: Write) -> None:
    with ExitStack() as stack:
        inputs = [stack.enter_context(open(path, "rb")) for path in paths]
        ltx.compact(inputs, Output(write), compress=compress)


@asynccontextmanager
async def whole(
    store: Store, database: Database, after: Pos = NOTHING
) -> AsyncIterator[tuple[AsyncIterator[bytes], Pos]]:
    """The bytes of an LTX file with every page, and the position it leads to.

    Args:
        after: the position that it extends; none for a snapshot.

    Raises:
        DatabaseBusy: applications keep the database locked.
        StreamError, OSError: it could not be read.
    """
    if after == NOTHING and (batch := await _all_files(database)) is not None:
        async with merged(store, batch) as pieces:
            yield pieces, batch.pos
        return
    path = database.ltx_dir.temporary()
    try:
        pos = await copy(store, database, path, after)
        async with _piped(partial(_send, path)) as pieces:
            yield pieces, pos
    finally:
        path.unlink(missing_ok=True)


async def _all_files(database: Database) -> Batch | None:
    """Every file since the first transaction, where that is not much more to read than the database."""
    try:
        batch = await next_batch(database, NOTHING)
    except FilesMissing:
        return None
    wanted = 2 * database.commit * database.page_size + PIECE
    return batch if batch.pos == database.published and batch.size <= wanted else None


async def copy(store: Store, database: Database, path: Path, after: Pos = NOTHING) -> Pos:
    """Write a whole database, as it is now, to an LTX file; its position.

    Raises:
        DatabaseBusy, StreamError, OSError: see `whole`; the file may be there in part.
    """
    hold = Hold(database)
    async with hold as snapshot:
        pos = snapshot.noted.pos
        head = snapshotfile.header(
            store, snapshot.page_size, snapshot.commit, pos, snapshot.noted.timestamp, after=after
        )

        def write_all() -> None:
            with open(path, "xb") as file:

                def write(data: bytes) -> None:
                    trio.from_thread.check_cancelled()
                    file.write(data)

                snapshotfile.encode(snapshot, hold, head, pos.checksum, write)
                file.flush()
                os.fdatasync(file.fileno())

        await trio.to_thread.run_sync(write_all)
    await snapshotfile.until_published(store, database, pos, PUBLISH_LIMIT)
    return pos


def _send(path: Path, write: Write) -> None:
    with open(path, "rb", buffering=0) as file:
        while data := file.read(PIECE):
            write(data)


@asynccontextmanager
async def _piped(
    produce: Callable[[Callable[[bytes | memoryview], None]], None],
) -> AsyncIterator[AsyncIterator[bytes]]:
    async with AsyncExitStack() as stack:
        pipe = FromThread(produce, limit=STALL_LIMIT)
        stack.push_async_callback(pipe.aclose)
        yield pipe
