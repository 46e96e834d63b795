"""The halt lock, on a replica: applications here write a database whose primary is another node.

An application opens ``NAME-lock`` for writing. The open returns when the primary has halted the database for this
node, and this node has all that the primary has. Until the last one closes the file, commits here are the primary's
(`litefs.store.writethrough`).

The right ends early when the connection to the primary is lost, when another is primary, and when the primary could
not be asked in time to prolong it. Later commits are refused then.
"""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import trio

from litefs import jsontext
from litefs.errors import LitefsError, StreamError
from litefs.ltx import Pos, parse_checksum, parse_txid
from litefs.replication.wire import Upload
from litefs.store.store import clock

if TYPE_CHECKING:
    from litefs.cluster.peers import PeerResponse, Peers
    from litefs.cluster.role import Role
    from litefs.leases import PrimaryInfo
    from litefs.store import Database, Store
    from litefs.store.writethrough import Sending

log = logging.getLogger(__name__)

OPEN_LIMIT = 10.0
"""Seconds that opening ``NAME-lock`` may take."""

TTL = 29.0
"""Seconds that the right lasts, from when it was asked for: the primary gives 30."""

PROLONG = 8.0
"""Seconds after which the primary is asked to prolong it."""

RETRY = 0.3
"""Seconds between two tries to reach the primary."""

DOUBT = 5.0
"""Seconds that a commit waits for the stream to tell, after the answer of the primary was lost."""

LAST_CHANCE = 1.0
"""Seconds that a commit under way has for the primary's answer, once the right has ended."""

SLOWEST = 1 << 20
"""Bytes a second that a connection to the primary has at least."""

_ANSWER = 30.0
"""Seconds to commit, besides the transfer: on the primary readers may have to be waited for."""

_MARK = {"Litefs-Halt": "prolong"}


class RemoteHalt:
    """A database that is halted for this node."""

    def __init__(self, db: Database, primary: PrimaryInfo, peers: Peers, now: Callable[[], float]) -> None:
        self.db = db
        self.pos = Pos(0, 0)  # where the primary was
        self.prolongs = False  # the primary does that
        self.url = primary.advertise_url
        self._lock_id = secrets.randbits(63) or 1
        self._peers = peers
        self._now = now
        self._expires = 0.0
        self._ended = trio.Event()
        self._committing = trio.Lock()

    # ---------------------------------------------------------------------------------------- asking the primary

    async def acquire(self) -> None:
        """Ask the primary for it, or to prolong it.

        Raises:
            OSError: EBUSY when others have it; EHOSTUNREACH when it is not the primary (any more); EPROTO for an
                answer that makes no sense.
            StreamError: the primary does not answer.
        """
        asked = self._now()
        response = await self._peers.request("POST", self.url, self._path("/halt", "id"), headers=_MARK, timeout=TTL)
        if response.status != 200:
            raise OSError(errno.EBUSY if response.status == 500 else errno.EHOSTUNREACH, response.text)
        pos = _position(response)
        if self._expires and pos != self.pos:
            raise OSError(errno.EBUSY, "another node has written meanwhile")
        self.pos = pos
        self.prolongs = response.headers.get("litefs-halt") == "prolonged"
        self._expires = asked + TTL

    async def release(self) -> None:
        """Give it back. Raises StreamError, OSError."""
        response = await self._peers.request("DELETE", self.url, self._path("/halt", "id"), timeout=OPEN_LIMIT)
        if response.status not in (200, 404):
            raise OSError(errno.EIO, response.text)

    def _path(self, path: str, key: str) -> str:
        name = self.db.name.encode("utf-8", "surrogateescape")
        return f"{path}?{urlencode({'name': name, key: self._lock_id})}"

    # ------------------------------------------------------------------------------------------------- the right

    @property
    def valid(self) -> bool:
        """Whether this node still has it; also true of a moment that nobody has looked at yet."""
        return not self._ended.is_set() and self._now() < self._expires

    def end(self, reason: str) -> None:
        """This node does not have it any more."""
        if not self._ended.is_set():
            self._ended.set()
            if reason:
                log.warning("%s: the halt lock is lost: %s", self.db.name, reason)

    async def stop(self) -> None:
        """Begin no further commit, and wait for the one that is under way."""
        async with self._committing:
            self.end("")

    async def wait_end(self, seconds: float) -> None:
        """Wait until it is said that this node does not have it any more, or the time has passed."""
        with trio.move_on_after(max(0.0, min(seconds, self._expires - self._now()))):
            await self._ended.wait()

    # --------------------------------------------------------------------------------------------------- commits

    async def commit(self, sending: Sending) -> None:
        """Have the primary commit a transaction.

        Raises:
            OSError: EIO when it did not, or nobody knows: then the stream brings it if it did.
        """
        async with self._committing:
            if not self.valid:
                raise OSError(errno.EROFS, f"{self.db.name}: the halt lock is lost")
            outcome: list[str] = []
            async with trio.open_nursery() as nursery:
                for watch in (self._send, self._watch_stream, self._watch_end):
                    nursery.start_soon(watch, sending, outcome, nursery.cancel_scope)
            if "" not in outcome:
                raise OSError(errno.EIO, f"{self.db.name}: not committed by the primary: {outcome[0]}")

    async def _send(self, sending: Sending, outcome: list[str], done: trio.CancelScope) -> None:
        """Send until it is answered. A second time does no harm: the primary knows what it has."""
        body = Upload(sending.path, size := sending.path.stat().st_size)
        lost = ""
        while True:
            try:
                response = await self._peers.request(
                    "POST", self.url, self._path("/tx", "lockID"), body, timeout=_ANSWER + size / SLOWEST
                )
            except StreamError as error:
                lost = lost or str(error)
                log.info("%s: sending a transaction to the primary again: %s", self.db.name, error)
                await trio.sleep(RETRY)
                continue
            if response.status == 200:
                lost = ""
            elif lost:  # the first one may have arrived: LiteFS refuses the same transaction a second time
                lost = f"{lost}; {response.text}"
                await trio.sleep(DOUBT)
            else:
                lost = response.text
            break
        outcome.append(lost)
        done.cancel()

    async def _watch_stream(self, sending: Sending, outcome: list[str], done: trio.CancelScope) -> None:
        await sending.came_back.wait()
        outcome.append("")
        done.cancel()

    async def _watch_end(self, sending: Sending, outcome: list[str], done: trio.CancelScope) -> None:
        while self.valid:
            await self.wait_end(TTL)
        await trio.sleep(LAST_CHANCE)
        outcome.append("the halt lock is lost")
        done.cancel()


class _Users:
    """Those who have one ``NAME-lock`` open."""

    def __init__(self) -> None:
        self.count = 0
        self.halt: RemoteHalt | None = None
        self.lock = trio.Lock()


class RemoteHalts:
    """The databases that this node writes as a replica.

    Args:
        store: with the databases.
        role: of this node; its changes end all rights.
        peers: asks the primary.
        now: what the time of a right is measured by, in seconds.
    """

    def __init__(self, store: Store, role: Role, peers: Peers, now: Callable[[], float] = clock) -> None:
        self._store = store
        self._role = role
        self._peers = peers
        self._now = now
        self._users: dict[str, _Users] = {}
        self._nursery: trio.Nursery | None = None
        self._halts: set[RemoteHalt] = set()  # those that the primary may know of

    # --------------------------------------------------------------------------------------------- for the mount

    async def open(self, db: Database) -> None:
        """An application opens ``NAME-lock`` for writing; when this returns it may write. See `close`.

        Raises:
            OSError: EHOSTUNREACH when there is no primary, or it does not answer; EBUSY when others have the lock, or
                keep the database locked on the primary; ETIMEDOUT when this node is too far behind.
        """
        users = self._users.setdefault(db.name, _Users())
        users.count += 1
        try:
            await self._open(db, users)
        except BaseException as error:
            self.close(db)
            if isinstance(error, OSError):
                log.warning("%s: cannot acquire the halt lock: %s", db.name, error)
            raise

    async def _open(self, db: Database, users: _Users) -> None:
        stage = errno.EBUSY, "another node holds it, or applications keep the database locked on the primary"
        with trio.move_on_after(OPEN_LIMIT):
            async with users.lock:
                if self._store.writable or (users.halt is not None and users.halt.valid):
                    return
                halt = self._begin(db)
                users.halt = halt
                try:
                    await halt.acquire()
                    stage = errno.ETIMEDOUT, "this node does not reach the position of the primary"
                    await self._prepare(halt)
                except StreamError as error:
                    raise OSError(errno.EHOSTUNREACH, str(error)) from error
                finally:
                    if db.writer is not halt:
                        users.halt = None
                        self._start(self._end, halt)
                self._start(self._keep, halt)
                return
        raise OSError(*stage)

    def _begin(self, db: Database) -> RemoteHalt:
        primary = self._role.primary
        if primary is None or self._nursery is None:
            raise OSError(errno.EHOSTUNREACH, "there is no primary")
        halt = RemoteHalt(db, primary, self._peers, self._now)
        self._halts.add(halt)
        return halt

    async def _prepare(self, halt: RemoteHalt) -> None:
        """Have all that the primary has, and nothing of the node's own in the way of applications."""
        db = halt.db
        while db.pos != halt.pos or db.unfinished is not None:
            await db.moved.wait()
        try:
            await db.close_live()
        except (LitefsError, OSError) as error:
            log.debug("%s: %s", db.name, error)
        if not halt.valid or db.pos != halt.pos:
            raise OSError(errno.EHOSTUNREACH, "the primary has changed meanwhile")
        db.writer = halt
        log.debug("%s: written here, through %s, from %s on", db.name, halt.url, halt.pos)

    def close(self, db: Database) -> None:
        """One who has opened ``NAME-lock`` is gone; the last one gives the lock back."""
        users = self._users[db.name]
        users.count -= 1
        if not users.count:
            self._start(self._close, db, users)

    async def _close(self, db: Database, users: _Users) -> None:
        async with users.lock:
            if users.count:
                return  # the next one has it already
            halt, users.halt = users.halt, None
            if self._users.get(db.name) is users:
                del self._users[db.name]
            if halt is not None:
                await self._end(halt)

    def _start(self, function: Callable[..., object], *arguments: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(function, *arguments)  # type: ignore[arg-type]

    # ---------------------------------------------------------------------------------------------- life cycle

    async def run(self) -> None:
        """Until cancelled; then everything is given back."""
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    await self._role.wait_change()
                    for halt in self._halts:
                        if halt.valid:
                            halt.end("the connection to the primary is lost, or another node is primary")
        finally:
            self._nursery = None
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                async with trio.open_nursery() as nursery:
                    for halt in list(self._halts):
                        nursery.start_soon(self._end, halt)

    async def _keep(self, halt: RemoteHalt) -> None:
        """Prolong a right for as long as it is used, and give it back when it is lost."""
        pause = PROLONG
        while halt.valid:
            await halt.wait_end(pause)
            if not halt.valid or not halt.prolongs:
                continue
            try:
                pause = PROLONG
                with trio.move_on_after(PROLONG):
                    await halt.acquire()
            except StreamError as error:
                log.info("%s: cannot prolong the halt lock, retrying: %s", halt.db.name, error)
                pause = RETRY
            except OSError as error:
                halt.end(str(error))
        halt.end("its time is over")
        await self._end(halt)

    async def _end(self, halt: RemoteHalt) -> None:
        """Stop writing, and tell the primary, as long as it may believe otherwise."""
        await halt.stop()
        if halt.db.writer is halt:
            halt.db.writer = None
        deadline = self._now() + TTL
        while self._now() < deadline:
            try:
                await halt.release()
                break
            except (LitefsError, OSError) as error:
                log.debug("%s: cannot give the halt lock back, retrying: %s", halt.db.name, error)
            await trio.sleep(2)
        self._halts.discard(halt)


def _position(response: PeerResponse) -> Pos:
    try:
        pos = jsontext.loads(response.body)["pos"]
        if pos is None:
            return Pos(0, 0)
        return Pos(parse_txid(pos["TXID"]), parse_checksum(pos["PostApplyChecksum"]))
    except (ValueError, KeyError, TypeError, LitefsError) as error:
        raise OSError(errno.EPROTO, f"the primary's answer makes no sense: {error}") from error
