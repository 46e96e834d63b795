"""The backup as a part of the node: works while this node is the primary, whatever becomes of the backup's server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import trio

from litefs.backup.client import BackupClient
from litefs.backup.progress import BackupStatistics, Progress, Verification
from litefs.backup.status import as_json
from litefs.errors import LitefsError, ReadOnly
from litefs.lifecycle import unwrap

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from litefs.backup.session import Session
    from litefs.extensions import RunningNode
    from litefs.store import Store

log = logging.getLogger(__name__)

FIRST_DELAY = 1.0
"""Seconds before the first new try after an error; doubled with each one that fails."""

LONGEST_DELAY = 10.0
"""Seconds between two tries at most: an outage must not cost more once it is over."""


LOOK = 0.1
"""Seconds between two looks at what was published: a lag is known that exactly."""


class BackupService:
    """Keeps a backup in step with the databases of the primary.

    Args:
        make_client: called when the node runs; opens nothing yet.
        on_mismatch: ``backup.on-mismatch``.

    Attributes:
        progress: how far it is.
    """

    def __init__(self, make_client: Callable[[Store], BackupClient], *, on_mismatch: str) -> None:
        self.progress = Progress()
        self._client: BackupClient | None = None
        self._make_client = make_client
        self._on_mismatch = on_mismatch
        self._restored = trio.Event()
        self._node: RunningNode | None = None

    async def run(self, node: RunningNode, *, task_status: trio.TaskStatus[None]) -> None:
        """Work until cancelled."""
        self._node = node
        node.role.announced["backup"] = lambda: as_json(self.statistics())
        if await node.store.positions():
            self._restored.set()  # what is here can be served, whatever the backup says later
        task_status.started()
        while True:
            while not node.role.is_primary:
                await node.role.wait_change()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._lead)
                while node.role.is_primary:
                    await node.role.wait_change()
                nursery.cancel_scope.cancel()
            log.info("primary backup stream exiting")

    async def wait_restored(self) -> None:
        """Wait, on a primary that had no database when it started, until it has those of the backup.

        An application that found nothing, and began anew, would be in conflict with the backup from then on.
        """
        assert self._node is not None
        while self._node.role.is_primary and not self._restored.is_set():
            with trio.move_on_after(1):
                await self._restored.wait()

    def statistics(self) -> BackupStatistics:
        """The state of this moment."""
        backup_type = self._node.config.backup.type if self._node is not None else ""
        verification: Verification | None = getattr(self._client, "verification", None)
        return self.progress.statistics(backup_type, verification)

    def collectors(self) -> Sequence[Collector]:
        """For ``/metrics``. Imports what takes a while."""
        from litefs.backup.metrics import BackupCollector

        return [BackupCollector(self.statistics)]

    async def _lead(self) -> None:
        assert self._node is not None
        client = self._client = self._make_client(self._node.store)
        log.info("begin primary backup stream: url=%s", client.url)
        self.progress.begin(client.url)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, self._node.store)
                await self._keep_trying(client, self._node.store)
        finally:
            self.progress.end()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await client.aclose()

    async def _watch(self, store: Store) -> None:
        """Note what is published, whatever the session is busy with."""
        async with store.subscribe() as subscription:
            while True:
                for name in await subscription.wait():
                    if (database := store.opened(name)) is not None:
                        self.progress.published(name, database.published)
                await trio.sleep(LOOK)

    async def _keep_trying(self, client: BackupClient, store: Store) -> None:
        # Only now: what sends and restores need not be there before the mount.
        module = await trio.to_thread.run_sync(import_module, "litefs.backup.session")
        delay = FIRST_DELAY
        while True:
            session: Session = module.Session(store, client, on_mismatch=self._on_mismatch, progress=self.progress)
            error = await self._run(session)
            if session.in_step.is_set():
                delay = FIRST_DELAY
            if not isinstance(error, ReadOnly):  # then somebody will say so presently
                bug = not isinstance(error, (LitefsError, OSError))
                level = logging.ERROR if bug else logging.WARNING
                self.progress.failed(str(error) or type(error).__name__)
                log.log(level, "backup stream failed, retrying: %s", error, exc_info=error if bug else None)
            await trio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    async def _run(self, session: Session) -> Exception:
        """Run a session to its end, which is an error."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._note_restored, session)
                await session.run()
        except* Exception as group:
            failed = unwrap(group)
        return failed

    async def _note_restored(self, session: Session) -> None:
        await session.in_step.wait()
        self._restored.set()
