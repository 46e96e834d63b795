"""One connection to the backup while this node is the primary: from the first look at positions to the first error.

As LiteFS does: the positions of the backup are asked for at the start and every POLL seconds; transactions are sent
BATCH_DELAY seconds after the first of them was published, merged into one file. What concerns one database only, such
as a lock that applications hold or a refusal, is said once and tried again with the next poll; the others go on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import trio

from litefs.backup import upload
from litefs.backup.client import BackupClient, BackupError, DatabaseRefused, PositionConflict
from litefs.backup.restore import restore
from litefs.backup.rules import Decision, Step, decide
from litefs.errors import BadName, DatabaseNotFound, LTXError, ReadOnly, StoreError, StreamError
from litefs.ltx import Pos
from litefs.replication.pipes import PipeTimeout
from litefs.store.names import check_name

if TYPE_CHECKING:
    from litefs.backup.progress import Progress
    from litefs.store import Database, Store

log = logging.getLogger(__name__)

BATCH_DELAY = 1.0
"""Seconds that transactions are collected for."""

POLL = 10.0
"""Seconds between two looks at the backup's positions."""

NOWHERE = Pos(0, 0)

# What can be wrong with one database without anything being wrong with the others.
_OF_ONE = (DatabaseRefused, StoreError, LTXError, StreamError, PipeTimeout, OSError)


class Mismatch(DatabaseRefused):
    """Local state and backup do not continue each other, and ``backup.on-mismatch`` forbids to restore."""


class Session:
    """Keeps one backup in step.

    Args:
        on_mismatch: ``restore``, ``keep-local`` or ``stop``.
        progress: told of everything; kept by the caller from session to session.

    Attributes:
        in_step: set once every database is where its backup is.
    """

    def __init__(self, store: Store, client: BackupClient, *, on_mismatch: str, progress: Progress) -> None:
        self.in_step = trio.Event()
        self._store = store
        self._client = client
        self._on_mismatch = on_mismatch
        self._progress = progress
        self._troubles = progress.troubles
        self._remote: dict[str, Pos] = {}

    async def run(self) -> None:
        """Work until something fails.

        Raises:
            BackupError: the backup does not answer as it should.
            ReadOnly: this node is no longer the primary.
        """
        async with self._store.subscribe() as subscription:
            while True:
                poll = trio.current_time() + POLL
                await self._sync(await self._behind())
                self._progress.went_well()
                if not self._troubles:
                    self.in_step.set()
                while trio.current_time() < poll:
                    moved: set[str] = set()
                    with trio.move_on_at(poll):
                        moved = await subscription.wait()
                    if moved:
                        await trio.sleep(BATCH_DELAY)
                        await self._sync(moved)

    async def _behind(self) -> list[str]:
        """Databases that are not where their backup is, by a fresh look at it."""
        try:
            self._remote = await self._client.positions()
        except BackupError as error:
            raise BackupError(f"fetch position map: {error.message}", error.hint) from error
        local = await self._store.positions()
        self._progress.looked(local, self._remote)
        names = filter(self._usable, sorted({*local, *self._remote}))
        behind = [name for name in names if local.get(name) != self._remote.get(name)]
        for name in [name for name in self._troubles if name not in behind]:
            self._recovered(name)
        return behind

    def _usable(self, name: str) -> bool:
        try:
            check_name(name)
        except BadName as error:
            log.warning("the backup has a database that cannot exist here: %s", error)
            return False
        return True

    async def _sync(self, names: Iterable[str]) -> None:
        """Bring databases and backup together, taking turns, so that a long way of one does not hold up the others."""
        waiting = deque(names)
        while waiting:
            name = waiting.popleft()
            try:
                if await self._step(name):
                    waiting.append(name)
                elif name in self._troubles:
                    self._recovered(name)
            except ReadOnly:
                raise
            except _OF_ONE as error:
                self._trouble(name, error)
            except BackupError as error:
                raise BackupError(f'backup stream error ("{name}"): {error.message}', error.hint) from error

    def _trouble(self, name: str, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if self._troubles.get(name) != text:
            log.error('"%s" is not backed up now, will try again: %s', name, text)
            self._progress.failed(f'"{name}": {text}', passing=True)
            self._troubles[name] = text

    def _recovered(self, name: str) -> None:
        del self._troubles[name]
        log.info('"%s" is backed up again', name)

    # ------------------------------------------------------------------------------------------------ one database

    async def _step(self, name: str) -> bool:
        """One step towards the backup; whether there may be more to do."""
        database = await self._local(name)
        local = database.published if database is not None else NOWHERE
        remote = self._remote.get(name, NOWHERE)
        decision = decide(local, remote)
        if decision.step is Step.NOTHING:
            self._progress.settled(name)
            return False
        if decision.step is Step.RESTORE or database is None:
            return await self._restore(name, local, decision.reason)
        try:
            reached = await self._upload(database, decision, remote)
        except upload.FilesMissing as missing:
            log.info("%s: %s", name, missing)
            return await self._restore(name, local, missing.reason)
        except PositionConflict as conflict:
            self._remote[name] = conflict.pos
            return await self._restore(name, local, "out-of-sync")
        # What was published meanwhile is collected for a while: commit after commit would be as many uploads.
        return reached.txid < local.txid

    async def _local(self, name: str) -> Database | None:
        try:
            return await self._store.database(name)
        except DatabaseNotFound:
            return None

    async def _upload(self, database: Database, decision: Decision, remote: Pos) -> Pos:
        """Send the next file; where it leads."""
        if decision.step is Step.SNAPSHOT:
            async with upload.whole(self._store, database) as (pieces, pos):
                await self._write(database, pieces, pos)
            return pos
        batch = await upload.next_batch(database, remote)
        async with upload.merged(self._store, batch) as pieces:
            await self._write(database, pieces, batch.pos)
        return batch.pos

    async def _write(self, database: Database, pieces: AsyncIterator[bytes], pos: Pos) -> None:
        if not self._store.writable:
            raise ReadOnly("node is not primary")
        counted = _Counted(pieces)
        try:
            database.hwm = await self._client.write(database.name, counted)
        except PositionConflict:
            raise
        except BackupError as error:
            raise type(error)(f"write backup tx: {error.message}", error.hint) from error
        self._remote[database.name] = pos
        self._progress.stored(database.name, pos, database.published, counted.size)

    async def _restore(self, name: str, local: Pos, reason: str) -> bool:
        """The two do not continue each other; returns whether there may be more to do."""
        remote = self._remote.get(name, NOWHERE)
        if local.txid and self._on_mismatch != "restore":
            await self._keep_local(name, local, remote, reason)
            return True
        if not self._store.writable:
            raise ReadOnly("node is not primary")
        log.warning("restoring from backup: name=%s reason=%s pos.local=%s pos.remote=%s", name, reason, local, remote)
        started = trio.current_time()
        pos = await restore(self._store, self._client, name)
        elapsed = trio.current_time() - started
        self._progress.restored(name)
        log.warning("database restore complete: name=%s pos=%s elapsed=%.3fs", name, pos, elapsed)
        self._remote[name] = pos
        return True

    async def _keep_local(self, name: str, local: Pos, remote: Pos, reason: str) -> None:
        """Go on from the local state: to the backup it is one transaction that changes everything."""
        where = f"here {local}, in the backup {remote}, {reason}"
        if self._on_mismatch == "stop":
            raise Mismatch(f"local state and backup do not continue each other ({where})", _STOP_HINT)
        if not 0 < remote.txid < local.txid:
            raise Mismatch(f"the backup is ahead ({where})", "its uploads go on when it has passed the backup")
        database = await self._store.database(name)
        log.warning("keeping the local state, the backup goes on from it: name=%s %s", name, where)
        async with upload.whole(self._store, database, remote) as (pieces, pos):
            await self._write(database, pieces, pos)


class _Counted:
    """Pieces, and the bytes of those that were taken."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self.size = 0
        self._pieces = pieces

    def __aiter__(self) -> _Counted:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self.size += len(piece)
        return piece


_STOP_HINT = "set backup.on-mismatch to restore or keep-local"
