"""A snapshot that ends when its reader is done with it, not when the stream that asked for it gets to run again.

While a snapshot is open the primary's log cannot be folded. The stream may wait for its replica for as long as the
connection lasts; so the snapshot belongs to a task of its own, which the worker that reads it tells to end.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from litefs.live import Snapshot
    from litefs.store import Database, SnapshotInfo


PATIENCE = 2.0
"""Seconds to wait for a database that applications keep locked: the others wait meanwhile, and heartbeats."""


class Hold:
    """``async with Hold(database) as snapshot``: as `Database.snapshot`, but `end` may come before the block's end.

    No cancel scope is open inside the block, so generators may yield there.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._token = trio.lowlevel.current_trio_token()
        self._opened, self._over, self._closed = trio.Event(), trio.Event(), trio.Event()
        self._snapshot: Snapshot[SnapshotInfo] | None = None
        self._error: Exception | None = None

    async def __aenter__(self) -> Snapshot[SnapshotInfo]:
        trio.lowlevel.spawn_system_task(self._keep, name=f"snapshot of {self._database.name}")
        try:
            await self._opened.wait()
        except trio.Cancelled:
            self._over.set()
            raise
        if self._error is not None:
            raise self._error
        assert self._snapshot is not None
        return self._snapshot

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with trio.CancelScope(shield=True):
            await self._closed.wait()

    def end(self) -> None:
        """End the snapshot soon. May be called in any thread, and again."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._over.set)

    async def _keep(self) -> None:
        try:
            async with self._database.snapshot(PATIENCE) as self._snapshot:
                self._opened.set()
                await self._over.wait()
        except Exception as error:  # for the stream, where it is waited for
            self._error = error
        finally:
            self._opened.set()
            self._closed.set()
