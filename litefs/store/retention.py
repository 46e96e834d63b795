"""Removing LTX files that nobody needs any more."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from litefs.store.database import Database
    from litefs.store.ltxdir import Range
    from litefs.store.store import Store

log = logging.getLogger(__name__)

BATCH = 1000  # files removed before the trio thread gets another turn


class Retention:
    """Removes LTX files older than the retention, never one that start-up or a backup needs."""

    def __init__(self, store: Store, retention: float, interval: float, *, backup: bool) -> None:
        self._store = store
        self._retention = retention
        self._interval = interval
        self._backup = backup

    async def run(self) -> None:
        """Until cancelled."""
        if self._interval <= 0 or self._retention <= 0:
            await trio.sleep_forever()
        while True:
            await trio.sleep(self._interval)
            for db in self._store.open_databases():
                try:
                    await self.enforce(db)
                except OSError as error:
                    log.warning("%s: cannot remove old LTX files: %s", db.name, error)

    async def enforce(self, db: Database) -> int:
        """Remove the files of one database that are too old; how many.

        Raises:
            OSError: a file could not be removed.
        """
        now = time.time()
        before = now - self._retention
        if db.ltx_dir.is_ahead(now):
            log.warning("%s: LTX files are of a later time than it is: they are taken for new", db.name)
            await trio.to_thread.run_sync(db.ltx_dir.set_back, now)
        keep_from = min(db.published.txid + 1, db.hwm) if self._backup else db.published.txid + 1
        removed = 0
        while expired := db.ltx_dir.expired(before, keep_from)[:BATCH]:
            if expired[-1][1] > db.disk.saved.txid:
                await db.disk.save_table()
                expired = [item for item in expired if item[1] <= db.disk.saved.txid]
            # Start-up needs a file that survives a power failure: the newest ones may not have reached the disk.
            expired = [item for item in expired if item[1] < db.disk.durable]
            if not expired:
                break
            await trio.to_thread.run_sync(self._unlink, db, expired)
            for item in expired:
                db.ltx_dir.forget(item)
            db.ltx_dir.reaped += len(expired)
            removed += len(expired)
        return removed

    @staticmethod
    def _unlink(db: Database, items: list[Range]) -> None:
        for item in items:
            db.ltx_dir.file(*item).unlink(missing_ok=True)
