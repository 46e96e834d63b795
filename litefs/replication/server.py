"""The primary's side of replication: what one replica is sent, from its position map to the end of its stream.

Order on the wire, as in LiteFS: for each database LTX files, each incremental one followed by an HWM frame; DropDB for
databases that only the replica has; Ready; Heartbeat; then whatever is published, and a heartbeat every second, which
says that everything up to then has been sent. (LiteFS beats only in silence, so its replicas seem to lag under load.)
Any orderly exit ends with End.

A stream pulls: it knows the replica's position and reads the next files when the connection has room. Nothing is
queued for a replica, so one that is slow, or dead, costs the primary one open connection.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs.errors import DatabaseBusy, DatabaseNotFound, LitefsError, ReadOnly, StreamError
from litefs.ltx import EMPTY, Pos, encode
from litefs.replication import catchup, frames, posmap, snapshotfile
from litefs.replication.catchup import Step
from litefs.replication.hold import Hold
from litefs.replication.pipes import PIECE, FromThread, PipeTimeout

if TYPE_CHECKING:
    from litefs.store import Database, Store

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 1.0
"""Seconds between two heartbeats."""

RECENT = 8
"""Transactions that a live replica may be behind for their files to be read in the trio thread: written a moment ago,
they are in memory, and a hop to a worker and back costs more than ten of them."""


class StreamServer:
    """Opens streams and knows those that are open.

    Args:
        store: the databases; its `writable` says whether this node is the primary.
        snapshot_limit: seconds one snapshot may take, from the request for it to its last byte.
        now: clock for heartbeats, in seconds since the epoch.
    """

    def __init__(self, store: Store, *, snapshot_limit: float, now: Callable[[], float] = time.time) -> None:
        self.store = store
        self.snapshot_limit = snapshot_limit
        self.now = now
        self.frames_sent: Counter[tuple[str, str]] = Counter()
        self._open: set[PeerStream] = set()

    def __len__(self) -> int:
        """Streams that are open: replicas, as far as this node knows."""
        return len(self._open)

    @property
    def peers(self) -> dict[int, PeerStream]:
        """The newest open stream of each node id."""
        return {stream.peer_id: stream for stream in sorted(self._open, key=lambda stream: stream.number)}

    async def stream(self, request_body: bytes, names: Collection[str] | None, peer_id: int) -> PeerStream:
        """Start a stream; iterate over it for the response body and `aclose` it whatever happens.

        Args:
            request_body: the position map.
            names: databases to send, None for all.
            peer_id: the replica's node id, 0 when it did not say.

        Raises:
            ReadOnly: this node is not the primary (503).
            StreamError: the map is bad, or the peer is this node itself (400).
        """
        if peer_id and peer_id == self.store.node_id:
            raise StreamError("cannot connect to self")
        if not self.store.writable:
            raise ReadOnly("lease expired")
        if len(request_body) <= posmap.INLINE:
            positions = posmap.decode(request_body)
        else:
            positions = await trio.to_thread.run_sync(posmap.decode, request_body)
        return PeerStream(self, positions, names, peer_id)

    def end_all(self) -> None:
        """End every stream: the node shuts down or is no longer the primary. Returns at once."""
        for stream in list(self._open):
            stream.end()

    def handoff(self, peer_id: int, lease_id: str) -> None:
        """Send a peer the lease, after everything that is published.

        Raises:
            StreamError: no such node is connected.
        """
        stream = self.peers.get(peer_id)
        if stream is None:
            raise StreamError("target node is not currently connected")
        stream.end(lease_id)


class PeerStream(AsyncIterator[bytes]):
    """The frames for one replica, as an iterator over pieces of at most a few hundred KiB."""

    _numbers = iter(range(1 << 62))

    def __init__(
        self, server: StreamServer, positions: dict[str, Pos], names: Collection[str] | None, peer_id: int
    ) -> None:
        self.peer_id = peer_id
        self.positions = positions
        self.number = next(self._numbers)
        self._server = server
        self._store = server.store
        self._names = None if names is None else frozenset(names)
        self._ending = False
        self._lease_id: str | None = None
        self._inside_file = False
        self._live = False
        self._postponed: set[str] = set()  # databases that applications keep locked
        self._sleep = trio.CancelScope()
        self._pieces = self._run()

    def __aiter__(self) -> PeerStream:
        return self

    async def __anext__(self) -> bytes:
        return await self._pieces.__anext__()

    async def aclose(self) -> None:
        """Let go of everything the stream holds: a snapshot's locks, its place among the open streams."""
        await self._pieces.aclose()

    def end(self, lease_id: str | None = None) -> None:
        """Finish with End, after sending what is published and Handoff if there is a lease to hand over."""
        if not self._ending:
            self._lease_id = lease_id
            self._ending = True
            self._sleep.cancel()

    # No cancel scope or nursery is open across a yield below: the caller may stop iterating at any of them.

    async def _run(self) -> AsyncGenerator[bytes, None]:
        self._server._open.add(self)
        try:
            try:
                async with aclosing(self._serve()) as pieces:
                    async for piece in pieces:
                        self._check_lease()
                        yield piece
            except ReadOnly as error:
                log.info("stream to node %016X ends: %s", self.peer_id, error)
            except (LitefsError, OSError, PipeTimeout) as error:
                log.error("cannot stream to node %016X: %s", self.peer_id, error)
            if not self._inside_file:  # there, only the missing rest can tell the replica that something is wrong
                yield frames.END
        finally:
            self._server._open.discard(self)

    def _check_lease(self) -> None:
        """Nothing is sent once the lease is over, told so or not: another node may be primary by now."""
        if not self._store.writable and self._lease_id is None:
            raise ReadOnly("lease expired")

    async def _serve(self) -> AsyncGenerator[bytes, None]:
        async with self._store.subscribe(self._names) as subscription:
            async with aclosing(self._catch_up_all()) as pieces:
                async for piece in pieces:
                    yield piece
            self._live = True
            yield frames.READY + self._heartbeat()
            beat = trio.current_time() + HEARTBEAT_INTERVAL
            while not self._ending:
                moved: set[str] = set()
                with trio.CancelScope(deadline=beat) as self._sleep:
                    moved = await subscription.wait()
                if not moved:  # time for another try
                    moved, self._postponed = self._postponed, set()
                async with aclosing(self._catch_up(moved)) as pieces:
                    async for piece in pieces:
                        yield piece
                if trio.current_time() >= beat and not self._ending:
                    yield self._heartbeat()
                    beat = trio.current_time() + HEARTBEAT_INTERVAL
            if self._lease_id is not None:
                async with aclosing(self._catch_up_all()) as pieces:
                    async for piece in pieces:
                        yield piece
                yield frames.handoff(self._lease_id)

    def _heartbeat(self) -> bytes:
        return frames.heartbeat(int(self._server.now() * 1000))

    async def _catch_up_all(self) -> AsyncGenerator[bytes, None]:
        """Bring every database of the replica to what is published now; name those only it has."""
        ours = await self._store.positions(self._names)
        strangers = [name for name in self.positions if name not in ours and self._wanted(name)]
        for name in strangers:
            del self.positions[name]
            yield frames.drop_db(name)
        behind = [name for name, pos in ours.items() if self.positions.get(name) != pos]
        async with aclosing(self._catch_up(behind)) as pieces:
            async for piece in pieces:
                yield piece

    def _wanted(self, name: str) -> bool:
        return self._names is None or name in self._names

    async def _catch_up(self, names: Iterable[str]) -> AsyncGenerator[bytes, None]:
        for name in names:
            try:
                database = await self._store.database(name)
            except DatabaseNotFound:
                continue
            goal = database.published  # not beyond: other databases wait for their turn
            if self._is_new(database, goal) and (recent := self._recent(database, goal)):
                yield recent
            step = catchup.next_step(self.positions.get(name, Pos(0, 0)), goal)
            while step is not Step.NOTHING and not (self._ending and self._lease_id is None):
                if step is Step.FILES and (recent := self._recent(database, goal)):
                    yield recent
                else:
                    source = self._files(database, goal) if step is Step.FILES else self._snapshot(database)
                    try:
                        async with aclosing(source) as pieces:
                            async for piece in pieces:
                                yield piece
                    except DatabaseBusy as error:
                        log.warning("cannot take a snapshot now, will try again: %s", error)
                        self._postponed.add(name)
                        break
                    if step is Step.SNAPSHOT:
                        break  # it may hold more than `goal`
                step = catchup.next_step(self.positions[name], goal)

    def _is_new(self, database: Database, goal: Pos) -> bool:
        """Whether a database has appeared just now: then its first files say it all, and no lock is needed."""
        return self._live and database.name not in self.positions and goal.txid > 0

    def _recent(self, database: Database, goal: Pos) -> bytes:
        """The frames of the next few transactions, when their files are small and fit; else b""."""
        pos = self.positions.get(database.name, Pos(0, 0))
        if not self._live or goal.txid - pos.txid > RECENT:
            return b""
        files = catchup.next_files(database.ltx_dir, pos.txid, goal.txid)
        return self._account(database.name, catchup.read_batch(database.name, files, pos, database.hwm))

    def _account(self, name: str, batch: catchup.Batch) -> bytes:
        if batch.count:
            self.positions[name] = batch.pos
            self._server.frames_sent[name, "ltx"] += batch.count
        return batch.data

    async def _files(self, database: Database, goal: Pos) -> AsyncGenerator[bytes, None]:
        """LTX files towards `goal`: some of them, or a big one. When none fits, the replica's position is forgotten."""
        name, pos = database.name, self.positions[database.name]
        files = catchup.next_files(database.ltx_dir, pos.txid, goal.txid)
        batch = await trio.to_thread.run_sync(catchup.read_batch, name, files, pos, database.hwm)
        problem = batch.problem
        if not files:
            problem = f"transaction file for txid {pos.txid + 1:016x} no longer available"
        if batch.data:
            yield self._account(name, batch)
        if batch.big is not None:
            async with aclosing(self._big_file(database, *batch.big)) as pieces:
                async for piece in pieces:
                    yield piece
        elif problem is not None:
            self._forget(name, problem)

    def _forget(self, name: str, problem: str) -> None:
        """No file can be built upon what the replica holds: a snapshot can."""
        log.info("%s, writing snapshot", problem)
        self.positions[name] = Pos(0, 0)

    async def _big_file(self, database: Database, item: catchup.Range, path: Path) -> AsyncGenerator[bytes, None]:
        """One LTX file in pieces, its head and tail checked before anything is sent."""
        name = database.name
        fd = await trio.to_thread.run_sync(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            start = os.pread(fd, catchup.HEADER_SIZE, 0)
            after = catchup.follows(item, self.positions[name], start, os.pread(fd, 16, size - 16))
            if isinstance(after, str):
                self._forget(name, after)
                return
            self._inside_file = True
            yield frames.ltx_start(name)
            for offset in range(0, size, PIECE):
                yield frames.chunks(await trio.to_thread.run_sync(os.pread, fd, PIECE, offset))
        finally:
            os.close(fd)
        self._inside_file = False
        self.positions[name] = after
        self._server.frames_sent[name, "ltx"] += 1
        yield frames.CHUNKS_END + frames.hwm(database.hwm, name)

    async def _snapshot(self, database: Database) -> AsyncGenerator[bytes, None]:
        """The whole database as one LTX file, or a file without pages for a deleted one."""
        name = database.name
        if database.published.checksum == EMPTY:
            pos = database.published
            head = snapshotfile.header(self._store, database.page_size, 0, pos, database.timestamp)
            yield frames.ltx(name, encode(head, (), EMPTY))
        else:
            hold = Hold(database)
            async with hold as snapshot:
                pos, timestamp = snapshot.noted.pos, snapshot.noted.timestamp
                log.info('writing snapshot "%s" @ %016x', name, pos.txid)
                self._inside_file = True
                yield frames.ltx_start(name)
                header = snapshotfile.header(self._store, snapshot.page_size, snapshot.commit, pos, timestamp)
                pipe = FromThread(
                    partial(snapshotfile.encode, snapshot, hold, header, pos.checksum),
                    limit=self._server.snapshot_limit,
                )
                try:
                    while piece := await pipe.get():
                        yield frames.chunks(piece)
                finally:
                    await pipe.aclose()
            await snapshotfile.until_published(self._store, database, pos, self._server.snapshot_limit)
            self._inside_file = False
            yield frames.CHUNKS_END
        self.positions[name] = pos
        self._server.frames_sent[name, "ltx:snapshot"] += 1
