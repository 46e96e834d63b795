"""What one replica is sent, from its position map to the end of its stream.

Order on the wire, as in LiteFS: for each database LTX files, each incremental one followed by an HWM frame; DropDB for
databases that only the replica has; Ready; Heartbeat; then whatever is published, and a heartbeat every second, which
says that everything up to then has been sent. (LiteFS beats only in silence, so its replicas seem to lag under load.)
Peers that introduced themselves get Members frames as well. Any orderly exit ends with End.

A stream pulls: it knows the replica's position and reads the next files when the connection has room. Nothing is
queued for a replica, so one that is slow, or dead, costs the primary one open connection.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs.errors import DatabaseBusy, DatabaseNotFound, LitefsError, ReadOnly
from litefs.ltx import EMPTY, HEADER_SIZE, TRAILER_SIZE, Pos, encode
from litefs.replication import catchup, frames, snapshotfile
from litefs.replication.catchup import Step
from litefs.replication.ending import Ending, Offer
from litefs.replication.hold import Hold
from litefs.replication.pipes import PIECE, FromThread, PipeTimeout

if TYPE_CHECKING:
    from litefs.replication.members import Member
    from litefs.replication.server import StreamServer
    from litefs.store import Database
    from litefs.store.ltxdir import Range

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 1.0
"""Seconds between two heartbeats."""

RECENT = 8
"""Transactions that a live replica may be behind for their files to be read in the trio thread: written a moment ago,
they are in memory, and a hop to a worker and back costs more than ten of them."""


class PeerStream(AsyncIterator[bytes]):
    """The frames for one replica, as an iterator over pieces of at most a few hundred KiB."""

    _numbers = iter(range(1 << 62))

    def __init__(
        self,
        server: StreamServer,
        positions: dict[str, Pos],
        names: Collection[str] | None,
        peer_id: int,
        member: Member | None = None,
        *,
        term: int = 0,
    ) -> None:
        self.peer_id = peer_id
        self.positions = positions
        self.member = member
        self.live = trio.Event()  # it has everything that existed when it began
        self.settled = trio.Event()  # the lease was given to the peer, or it has ended
        self.closed = trio.Event()
        self.number = next(self._numbers)
        self._server = server
        self._store = server.store
        self._names = None if names is None else frozenset(names)
        self._ending: Ending | None = None
        self._offer: Offer | None = None
        self._announced = b""
        self._term = term  # 0 once the peer has been told that it holds it, or when it shall not be told
        self._inside_file = False
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

    @property
    def complete(self) -> bool:
        """Whether the peer replicates every database."""
        return self._names is None

    @property
    def may_lead(self) -> bool:
        """Whether the peer could take over now, as far as it has said."""
        return self.may_come and self.live.is_set()

    @property
    def may_come(self) -> bool:
        """Whether the peer could take over once it has caught up."""
        return bool(self.member and self.member.candidate and self.complete) and not self.ending

    @property
    def sent(self) -> bool:
        """Whether the peer has been sent everything that is published."""
        return not self._lacking()

    @property
    def ending(self) -> bool:
        """Whether nothing new will be sent any more."""
        return self._ending is not None

    @property
    def transactions(self) -> int:
        """How many the peer has been sent, all databases together."""
        return sum(pos.txid for pos in self.positions.values())

    def end(self) -> None:
        """Finish with End as soon as possible."""
        self._finish(Ending.NOW)

    def flush(self) -> None:
        """Finish with End after sending everything that is published."""
        self._finish(Ending.FLUSH)

    def offer(self, offer: Offer) -> None:
        """Finish with Handoff and End after sending everything that is published."""
        self._finish(Ending.HANDOFF, offer)

    def wake(self) -> None:
        """There is news."""
        self._sleep.cancel()

    def _finish(self, how: Ending, offer: Offer | None = None) -> None:
        if self._ending is not Ending.NOW and not self._given:
            self._ending, self._offer = how, offer
            self._sleep.cancel()

    @property
    def _given(self) -> bool:
        return self._offer is not None and self._offer.given

    # No cancel scope or nursery is open across a yield below: the caller may stop iterating at any of them.

    async def _run(self) -> AsyncGenerator[bytes, None]:
        self._server.open.add(self)
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
            self._server.open.discard(self)
            self.settled.set()
            self.closed.set()

    def _check_lease(self) -> None:
        """Nothing is sent once the lease is over, told so or not: another node may be primary by now."""
        if not self._store.writable and not self._given:
            raise ReadOnly("lease expired")

    async def _serve(self) -> AsyncGenerator[bytes, None]:
        async with self._store.subscribe(self._names) as subscription:
            if self._term:
                yield frames.term(self._term, whole=False)
            async with aclosing(self._catch_up_all()) as pieces:
                async for piece in pieces:
                    yield piece
            self.live.set()
            waiting = self._server.unsettled()
            yield self._news() + self._whole() + (b"" if waiting else frames.READY) + self._heartbeat()
            beat = trio.current_time() + HEARTBEAT_INTERVAL
            while self._ending is None:
                # Asked before the look at what has moved: that holds everything that came until then.
                settled = waiting and not self._server.unsettled()
                moved: set[str] = set()
                with trio.CancelScope(deadline=beat) as self._sleep:
                    moved = await subscription.wait()
                if not moved:  # time for another try
                    moved, self._postponed = self._postponed, set()
                async with aclosing(self._catch_up(moved)) as pieces:
                    async for piece in pieces:
                        yield piece
                if news := self._news() + self._whole():
                    yield news
                if settled:
                    waiting = False
                    yield frames.READY
                if trio.current_time() >= beat and self._ending is None:
                    yield self._heartbeat()
                    beat = trio.current_time() + HEARTBEAT_INTERVAL
            async with aclosing(self._finale()) as pieces:
                async for piece in pieces:
                    yield piece

    async def _finale(self) -> AsyncGenerator[bytes, None]:
        """What the stream ends with, by the way it ends."""
        if self._ending is not Ending.NOW:
            behind = [db.name for db in self._lacking()]
            async with aclosing(self._catch_up(behind)) as pieces:
                async for piece in pieces:
                    yield piece
        if self._offer is not None and not self._lacking():
            self._offer.settle()
            self.settled.set()
            yield frames.handoff(self._offer.lease_id)

    def _lacking(self) -> list[Database]:
        """Databases that the peer does not have as they are published. One that is not open has not moved."""
        opened = [db for db in self._store.open_databases() if db.published.txid and self._wanted(db.name)]
        return [db for db in opened if self.positions.get(db.name) != db.published]

    def _news(self) -> bytes:
        """What the peer has not heard yet about the nodes of the cluster."""
        news = self._server.announcement
        if self.member is None or not news or news == self._announced:
            return b""
        self._announced = news
        return frames.members(news)

    def _whole(self) -> bytes:
        """Tells the peer, once, that it has all of this node's history that there was when it connected.

        Not while a database waits for a snapshot: what the peer has of it may be a tail that lost.
        """
        if not self._term or self._postponed or self._ending is Ending.NOW:
            return b""
        term, self._term = self._term, 0
        return frames.term(term, whole=True)

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
            while step is not Step.NOTHING and self._ending is not Ending.NOW:
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
        return self.live.is_set() and database.name not in self.positions and goal.txid > 0

    def _recent(self, database: Database, goal: Pos) -> bytes:
        """The frames of the next few transactions, when their files are small and fit; else b""."""
        pos = self.positions.get(database.name, Pos(0, 0))
        if not self.live.is_set() or goal.txid - pos.txid > RECENT:
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

    async def _big_file(self, database: Database, item: Range, path: Path) -> AsyncGenerator[bytes, None]:
        """One LTX file in pieces, its head and tail checked before anything is sent."""
        name = database.name
        fd = await trio.to_thread.run_sync(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            start = os.pread(fd, HEADER_SIZE, 0)
            after = catchup.follows(item, self.positions[name], start, os.pread(fd, TRAILER_SIZE, size - TRAILER_SIZE))
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
