"""Applies received LTX files: in order for each database, and each database at its own pace.

A database that applications keep locked must neither hold up the others nor pile up transactions in memory. Up to
BACKLOG bytes wait; when they are used up and nothing moves, the database that waits most is *shed*: what is queued for
it is forgotten, and once its lock is free the stream is started anew, so that the primary sends the rest again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, TypeVar

import trio

from litefs.errors import DatabaseBusy, LitefsError, PositionMismatch, StreamError
from litefs.ltx import Header, Pos
from litefs.replication.incoming import INLINE, Received
from litefs.store.batch import Small

if TYPE_CHECKING:
    from litefs.store import Database

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 256
"""Small files applied together."""

BACKLOG = 16 << 20
"""Bytes that may wait to be applied."""

STALL = 1.0
"""Seconds without one applied file, with the backlog full, after which a database is shed."""

BUSY_DELAY = 0.1
"""Seconds between two tries for a database that applications keep locked."""


class ApplyFailed(StreamError):
    """A database could not take a transaction: the stream has to start anew.

    Args:
        doubt: 0 when what the database holds is sound, 1 when asking again may do, 2 when only a snapshot can.
    """

    def __init__(self, name: str, error: Exception, *, doubt: int) -> None:
        super().__init__(f'cannot apply transaction to "{name}": {error}')
        self.name = name
        self.doubt = doubt


class NeedsRestart(StreamError):
    """A shed database is free again: ask the primary for what it missed."""


@dataclass(slots=True)
class _Entry:
    number: int
    cost: int
    item: Received


@dataclass(slots=True)
class _Queue:
    entries: deque[_Entry] = field(default_factory=deque)
    applying: int = 0  # entries, from the first on, that are being applied
    running: bool = False
    shed: bool = False


class Applier:
    """The databases of one connection that have something to apply.

    Args:
        nursery: where the workers run; they never raise into it.
        node_id: of this node, to recognise its own transactions coming back.
        failed: called with each error; the connection is of no use after the first.
        applied: called with the database's name and the header of each transaction it has taken.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        node_id: int,
        failed: Callable[[Exception], None],
        applied: Callable[[str, Header], None],
    ) -> None:
        self._nursery = nursery
        self._node_id = node_id
        self._failed = failed
        self._applied = applied
        self._queues: dict[str, _Queue] = {}
        self._cost = 0
        self._sequence = 0
        self._marks: deque[tuple[int, Callable[[], None]]] = deque()
        self._broken = False
        self._progress = trio.Event()

    def is_shed(self, name: str) -> bool:
        """Whether transactions for this database are useless until the stream starts anew."""
        queue = self._queues.get(name)
        return queue is not None and queue.shed

    async def add(self, item: Received) -> None:
        """Queue a file; waits while the backlog is full."""
        while self._cost >= BACKLOG:
            with trio.move_on_after(STALL) as patience:
                await self._progress.wait()
            if patience.cancelled_caught:
                self._shed()
        name = item.database.name
        queue = self._queues.setdefault(name, _Queue())
        if queue.shed:
            item.discard()
            return
        self._sequence += 1
        self._cost += item.cost
        queue.entries.append(_Entry(self._sequence, item.cost, item))
        if not queue.running:
            queue.running = True
            self._nursery.start_soon(self._work, item.database, queue)

    def after_all(self, call: Callable[[], None]) -> None:
        """Call back once everything that is queued now has been applied; never if some of it cannot be."""
        if not self._broken:
            self._marks.append((self._sequence, call))
            self._call_marks()

    async def drain(self) -> None:
        """Wait until nothing is queued."""
        while self._queues:
            await self._progress.wait()

    def discard(self) -> None:
        """Delete the temporary files of what will not be applied. Call when the workers have ended."""
        for queue in self._queues.values():
            self._forget(queue)

    def _call_marks(self) -> None:
        if not self._marks:
            return
        oldest = self._oldest()
        while self._marks and self._marks[0][0] < oldest:
            self._marks.popleft()[1]()

    def _oldest(self) -> int:
        """Number of the oldest file that is not applied; 0 while a database is shed, which has lost count."""
        waiting = self._queues.values()
        return min((q.entries[0].number if q.entries else 0 for q in waiting), default=self._sequence + 1)

    def _shed(self) -> None:
        name, queue = max(self._queues.items(), key=lambda pair: len(pair[1].entries))
        if len(queue.entries) <= queue.applying:
            return
        log.warning(
            '"%s" is locked by applications: dropping %d queued transactions', name, len(queue.entries) - queue.applying
        )
        while len(queue.entries) > queue.applying:
            entry = queue.entries.pop()
            self._cost -= entry.cost
            entry.item.discard()
        queue.shed = True

    async def _work(self, database: Database, queue: _Queue) -> None:
        """Apply what is queued for one database, and end when there is nothing more."""
        error: Exception | None = None
        try:
            while queue.entries:
                for _ in range(await self._apply_some(database, queue)):
                    self._cost -= queue.entries.popleft().cost
                self._moved()
            if queue.shed:
                error = NeedsRestart(f'"{database.name}" is free again')
        except (LitefsError, OSError) as caught:
            error = ApplyFailed(database.name, caught, doubt=_doubt(caught))
        if error is not None:
            self._broken = True
            self._marks.clear()
            self._failed(error)
        self._forget(queue)
        del self._queues[database.name]
        self._moved()

    def _forget(self, queue: _Queue) -> None:
        for entry in queue.entries:
            self._cost -= entry.cost
            entry.item.discard()
        queue.entries.clear()

    def _moved(self) -> None:
        self._progress.set()
        self._progress = trio.Event()
        self._call_marks()

    async def _apply_some(self, database: Database, queue: _Queue) -> int:
        """Apply the first file, or the first few together where they are small; how many."""
        items = self._next(queue)
        small = [Small(item.data, item.header, item.trailer) for item in takewhile(self._is_small, items)]
        queue.applying = max(1, len(small))
        if small and (count := await _patiently(database, partial(database.apply_batch, small))):
            self._applied(database.name, small[count - 1].header)
            return count
        await self._apply(database, items[0])
        return 1

    def _next(self, queue: _Queue) -> list[Received]:
        """The first files; only a part of the backlog, since what is being applied cannot be shed."""
        items: list[Received] = []
        cost = 0
        for entry in islice(queue.entries, BATCH):
            if items and cost + entry.cost > BACKLOG // 4:
                break
            items.append(entry.item)
            cost += entry.cost
        return items

    def _is_small(self, item: Received) -> bool:
        return 0 < len(item.data) <= INLINE and item.header.node_id != self._node_id

    async def _apply(self, database: Database, item: Received) -> None:
        header, trailer = item.header, item.trailer
        reached = Pos(header.max_txid, trailer.post_apply)
        if header.node_id == self._node_id and await database.came_back(reached):
            item.discard()  # our own, by way of the primary, or from when this node was that
            return
        path = item.write() if len(item.data) <= INLINE else await trio.to_thread.run_sync(item.write)
        try:
            apply = partial(database.apply_ltx, path, header, trailer, local=False, content=item.content)
            await _patiently(database, apply)
        except BaseException:
            item.discard()
            raise
        item.discard_content()
        self._applied(database.name, header)


async def _patiently(database: Database, call: Callable[[], Awaitable[T]]) -> T:
    """Call again and again until the applications' locks allow it."""
    warned = False
    while True:
        try:
            return await call()
        except DatabaseBusy as error:
            if not warned:
                log.warning("%s: %s", database.name, error)
            warned = True
            await trio.sleep(BUSY_DELAY)


def _doubt(error: Exception) -> int:
    if isinstance(error, OSError):
        return 0
    return 1 if isinstance(error, PositionMismatch) else 2
