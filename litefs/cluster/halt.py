"""The halt lock, on the primary: one other node at a time is the only writer of a database.

    halted      applications here wait for the database's write lock, as for any writer; reads go on.
    released    by the holder, when its time is over, or when this node is no longer primary.

The holder's transactions come in as LTX files (`Halts.write`). A holder that is gone is noticed by its silence: the
right lasts `TTL` seconds from the last sign of life.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from litefs.errors import HaltError, LitefsError, PositionMismatch, ReadOnly
from litefs.ltx import Header, Pos, Trailer
from litefs.store.halt import Halt, halted
from litefs.store.store import clock

if TYPE_CHECKING:
    from litefs.cluster.role import Role
    from litefs.store import Database, Store

log = logging.getLogger(__name__)

TTL = 30.0
"""Seconds that a halt lasts without a sign of life."""

ACQUIRE_LIMIT = 10.0
"""Seconds to wait for applications here, and for another node's halt to end."""

CHECK = 0.5
"""Seconds between looks for halts that are over."""


class _Held:
    """A halt that is being begun, or is on."""

    def __init__(self, db: Database, halt: Halt) -> None:
        self.db = db
        self.halt = halt
        self.on = False
        self.error: Exception | None = None
        self.decided = trio.Event()  # it is on, or failed
        self.over = trio.Event()  # it shall end
        self.ended = trio.Event()
        self.client_pid = 0

    async def keep(self, now: Callable[[], float], patience: float) -> None:
        """From taking the database's lock to giving it back."""
        name, halt = self.db.name, self.halt
        try:
            async with halted(self.db, halt, patience):
                halt.expires = now() + TTL
                self.on, self.client_pid = True, self.db.store.client.pid
                self.decided.set()
                log.debug("%s: halted for %016X at %s", name, halt.node_id, halt.pos)
                await self.over.wait()
                self.on = False
            log.debug("%s: no longer halted for %016X", name, halt.node_id)
        except (LitefsError, OSError) as error:
            if self.decided.is_set():
                log.error("%s: cannot release the halt lock: %s", name, error)
            self.error = error
        finally:
            self.on = False
            self.decided.set()
            self.ended.set()


class Halts:
    """The halts of this node's databases.

    Args:
        store: with the databases.
        role: of this node; its changes end all halts.
        now: what the time of a halt is measured by, in seconds.
    """

    def __init__(self, store: Store, role: Role, now: Callable[[], float] = clock) -> None:
        self._store = store
        self._role = role
        self._now = now
        self._held: dict[str, _Held] = {}
        self._waiting: dict[tuple[str, int], trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._some = trio.Event()

    # ---------------------------------------------------------------------------------------------- for holders

    async def acquire(self, name: str, lock_id: int, node_id: int, *, prolong: bool = False) -> tuple[Halt, float]:
        """Halt a database for a node, or find the halt that it has already; with it the seconds until it ends.

        Args:
            name: of the database; made if there is none.
            lock_id, node_id: who asks.
            prolong: whether a halt that it has already shall last longer.

        Raises:
            BadName, ReadOnly: not here.
            HaltError: others kept the database locked, or it was given up meanwhile.
            OSError: the disk failed.
        """
        self._check_primary()
        db = await self._store.database(name, create=True)
        deadline = trio.current_time() + ACQUIRE_LIMIT
        with trio.CancelScope() as scope:
            self._waiting[name, lock_id] = scope
            try:
                halt = await self._acquire(db, lock_id, node_id, deadline)
                if prolong:
                    halt.expires = self._now() + TTL
                return halt, halt.expires - self._now()
            finally:
                if self._waiting.get((name, lock_id)) is scope:
                    del self._waiting[name, lock_id]
        raise HaltError("it was given up")

    async def _acquire(self, db: Database, lock_id: int, node_id: int, deadline: float) -> Halt:
        while True:
            self._check_primary()
            held = self._held.get(db.name)
            if held is None:
                held = self._begin(db, Halt(lock_id, node_id), deadline)
            mine = (held.halt.lock_id, held.halt.node_id) == (lock_id, node_id)
            if not mine or held.over.is_set():
                with trio.move_on_at(deadline) as limit:
                    await held.ended.wait()
                if limit.cancelled_caught:
                    raise HaltError(f"another node holds the halt lock of {db.name!r}")
                continue
            try:
                await held.decided.wait()
            except trio.Cancelled:
                held.over.set()
                raise
            if held.error is not None:
                raise HaltError(str(held.error)) from held.error
            if held.on:
                return held.halt

    def _begin(self, db: Database, halt: Halt, deadline: float) -> _Held:
        if self._nursery is None:
            raise ReadOnly("node is not primary")
        halt.expires = self._now() + ACQUIRE_LIMIT + TTL
        held = self._held[db.name] = _Held(db, halt)
        self._nursery.start_soon(self._keep, held, deadline - trio.current_time())
        self._some.set()
        return held

    async def _keep(self, held: _Held, patience: float) -> None:
        try:
            await held.keep(self._now, patience)
        finally:
            if self._held.get(held.db.name) is held:
                del self._held[held.db.name]

    async def release(self, name: str, lock_id: int) -> None:
        """End a halt, or stop waiting for it; returns when applications may write again. No error if there is none.

        Raises:
            BadName, DatabaseNotFound: there is no such database.
        """
        await self._store.database(name)
        if (scope := self._waiting.get((name, lock_id))) is not None:
            scope.cancel()
        held = self._held.get(name)
        if held is not None and held.halt.lock_id == lock_id:
            held.over.set()
            await held.ended.wait()

    def holder(self, name: str, lock_id: int, node_id: int) -> Halt:
        """The halt that a node has.

        Raises:
            ReadOnly: this node is not the primary.
            HaltError: it has none.
        """
        self._check_primary()
        held = self._held.get(name)
        if held is None or not held.on or (held.halt.lock_id, held.halt.node_id) != (lock_id, node_id):
            raise HaltError(f"halt lock {lock_id} of {name!r} is not held")
        if held.over.is_set() or self._is_over(held):
            raise HaltError(f"halt lock {lock_id} of {name!r} is over")
        return held.halt

    async def write(
        self, name: str, lock_id: int, node_id: int, path: Path, header: Header, trailer: Trailer
    ) -> Pos:  # fmt: skip
        """Apply a transaction of the holder; when this returns it is durable here, and on its way to all replicas.

        The same transaction may come again, from a holder that did not get the answer.

        Args:
            path: a complete, verified and durable LTX file in the database's `ltx_dir`, under a temporary name.

        Raises:
            HaltError, PositionMismatch, ReadOnly, DatabaseBusy: it was not applied.
            OSError: the disk failed.
        """
        halt = self.holder(name, lock_id, node_id)
        db = await self._store.database(name)
        reached = Pos(header.max_txid, trailer.post_apply)
        if db.pos != reached or header.node_id != node_id:
            _check_transaction(db, header)
            halt.expires = max(halt.expires, self._now() + TTL)  # applying takes its time
            await db.apply_ltx(path, header, trailer, local=True, halt=halt)
        halt.expires = max(halt.expires, self._now() + TTL)
        self._check_primary()  # or nobody could rely on it
        return reached

    def _check_primary(self) -> None:
        if not self._store.writable:
            raise ReadOnly("node is not primary")

    # ---------------------------------------------------------------------------------------------- life cycle

    async def run(self) -> None:
        """Until cancelled; ends the halts whose time is over, or all when this node's is."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._watch_role)
                while True:
                    await self._some.wait()
                    self._some = trio.Event()
                    while self._held:
                        self._end_overdue()
                        await trio.sleep(CHECK)
        finally:
            self._nursery = None

    async def _watch_role(self) -> None:
        while True:
            await self._role.wait_change()
            self._end_overdue()

    def _end_overdue(self) -> None:
        for name, held in self._held.items():
            if held.over.is_set():
                continue
            if self._is_over(held):
                log.warning("%s: the node that has halted it is silent: the halt is over", name)
                held.over.set()
            elif not self._store.writable:
                held.over.set()
            elif held.on and held.client_pid != self._store.client.pid:
                log.warning("%s: the halt ends with the client process of the mount", name)
                held.over.set()

    def _is_over(self, held: _Held) -> bool:
        return self._now() >= held.halt.expires


def _check_transaction(db: Database, header: Header) -> None:
    """What a remote transaction may be: the next one, of a database that is there afterwards.

    Raises:
        PositionMismatch, HaltError: it is something else.
    """
    if header.commit == 0:
        raise HaltError("a database can only be deleted on the primary")
    if header.min_txid != header.max_txid or header.min_txid != db.pos.txid + 1:
        raise PositionMismatch(
            f"position mismatch on db {db.name!r}: {db.pos} here, transactions {header.min_txid} to {header.max_txid}"
        )
