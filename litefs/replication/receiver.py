"""What arrives on a stream, frame by frame: LTX files go to the applier, the rest to those who want to know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from litefs.errors import BadName, LTXError, StreamError
from litefs.replication import members
from litefs.replication.applier import Applier, ApplyFailed
from litefs.replication.frames import (
    HWM,
    End,
    FrameParser,
    Handoff,
    Heartbeat,
    LTXData,
    LTXEnd,
    LTXStart,
    Members,
    Ready,
    Term,
)
from litefs.replication.incoming import Incoming
from litefs.replication.members import Member
from litefs.replication.wire import Response

if TYPE_CHECKING:
    from litefs.store import Store

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Whoever wants to know how far the stream has come."""

    def heartbeat(self, timestamp_ms: int) -> None:
        """Everything that the primary had sent when its clock showed this time has been applied."""

    def caught_up(self) -> None:
        """Everything that existed when the stream began has been applied."""


class Terms(Protocol):
    """Whoever remembers which history this node follows (`litefs.cluster.term.Terms`)."""

    @property
    def held(self) -> int:
        """The term whose data this node has; 0 when not known."""

    def heard(self, term: int) -> None:
        """The primary leads under this term."""

    def follow(self, term: int) -> None:
        """Everything that a primary of this term, or of none, had when the stream began has been applied."""


class Receiver:
    """Turns the frames of one stream into files for the applier.

    Args:
        store: where databases are made that the primary has.
        applier: gets the files.
        observer: is told of heartbeats and readiness.
        databases: names to replicate; all when empty.
        ignored: databases that are left out.
        learned: is told of the nodes of the cluster that the primary knows.
        terms: is told of the primary's term.
    Attributes:
        reads: moves with everything that arrives.
        waiting: for the peer, not for a database.
    """

    def __init__(
        self,
        store: Store,
        applier: Applier,
        observer: Observer,
        databases: Sequence[str],
        ignored: frozenset[str],
        learned: Callable[[list[Member]], None],
        terms: Terms | None,
    ) -> None:
        self._store = store
        self._applier = applier
        self._observer = observer
        self._databases = frozenset(databases)
        self._incoming: Incoming | None = None
        self._lease_id: str | None = None
        self._ready = False
        self._ignored = set(ignored)
        self._learned = learned
        # One that leaves out databases has not all of anybody's history.
        self._terms = terms if not databases and not ignored else None
        self._tells_term = False
        self.reads = 0
        self.waiting = False

    async def run(self, response: Response) -> str | None:
        """Read to the end of the stream. The lease id that was handed over, or None."""
        parser = FrameParser()
        try:
            while data := await self._read(response):
                for frame in parser.feed(data):
                    if type(frame) is LTXData:
                        await self._data(frame)
                    elif type(frame) is End:
                        return self._lease_id
                    else:
                        await self._handle(frame)
            if not parser.at_boundary:
                raise StreamError("the stream ended inside a frame")
            return self._lease_id
        finally:
            if self._incoming is not None:
                await self._incoming.aclose()

    async def _read(self, response: Response) -> bytes | memoryview:
        self.reads += 1
        self.waiting = True
        data = await response.receive()
        self.waiting = False
        return data

    async def _data(self, frame: LTXData) -> None:
        if self._incoming is not None:
            try:
                await self._incoming.add(frame.data)
            except LTXError as error:
                raise ApplyFailed(self._incoming.database.name, error, doubt=1) from error

    async def _handle(self, frame: object) -> None:
        match frame:
            case LTXStart(name):
                await self._start(name)
            case LTXEnd():
                await self._end()
            case HWM(txid, name):
                self._high_water_mark(name, txid)
            case Heartbeat(timestamp_ms):
                self._heartbeat(timestamp_ms)
            case Ready():
                self._ready = True
            case Handoff(lease_id):
                self._lease_id = lease_id
            case Members(data):
                self._learned(members.decode(data))
            case Term(term, whole):
                self._term(term, whole)

    async def _start(self, name: str) -> None:
        unwanted = self._databases and name not in self._databases
        if unwanted or name in self._ignored or self._applier.is_shed(name):
            return
        try:
            self._incoming = Incoming(await self._store.database(name, create=True))
        except BadName as error:  # Go LiteFS takes some side files for databases; the others must go on
            self._ignored.add(name)
            log.warning("not replicating a database of the primary: %s", error)

    async def _end(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            return
        try:
            await self._applier.add(await incoming.finish())
        except LTXError as error:
            raise ApplyFailed(incoming.database.name, error, doubt=1) from error
        finally:
            await incoming.aclose()

    def _high_water_mark(self, name: str, txid: int) -> None:
        database = self._store.opened(name)
        if database is not None:
            database.hwm = txid

    def _term(self, term: int, whole: bool) -> None:
        self._tells_term = True
        if self._terms is not None:
            follow = partial(self._terms.follow, term)
            self._terms.heard(term)
            if whole:
                self._applier.after_all(follow)

    def _heartbeat(self, timestamp_ms: int) -> None:
        if self._ready:
            self._ready = False
            if self._terms is not None and not self._tells_term:
                self._applier.after_all(partial(self._terms.follow, 0))
            self._applier.after_all(self._observer.caught_up)
        self._applier.after_all(lambda: self._observer.heartbeat(timestamp_ms))
