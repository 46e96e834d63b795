"""Maintenance beside the uploads: a thread that looks after the databases that have changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from litefs.backup import BackupError
from litefs_backup_store.levels import Levels
from litefs_backup_store.maintenance import Maintenance
from litefs_backup_store.vault import Replaced, Vault

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between two looks."""


class Caretaker:
    """Runs `Maintenance` for a vault until closed."""

    def __init__(self, vault: Vault, levels: Levels) -> None:
        self._maintenance = Maintenance(vault, levels)
        self._interval = levels.merged[1].interval
        self._due: dict[str, float] = {}  # monotonic time of the next whole round
        self._sent: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._main, name="litefs-backup-maintenance", daemon=True)

    def start(self, databases: Iterable[str]) -> None:
        """Begin with these; more come with `touched`."""
        for name in databases:
            self.touched(name)
        self._thread.start()

    def touched(self, database: str) -> None:
        """A database has changed."""
        with self._lock:
            self._sent.add(database)
            self._due.setdefault(database, time.monotonic() + self._interval)

    def close(self, *, wait: float = 0.0) -> None:
        """Stop soon, and wait so many seconds for it; what is under way is done again next time."""
        self._closed.set()
        if wait and self._thread.ident is not None:
            self._thread.join(wait)

    def _main(self) -> None:
        while not self._closed.wait(LOOK):
            with self._lock:
                sent, self._sent = self._sent, set()
                due = [name for name, when in self._due.items() if when <= time.monotonic()]
                for name in due:
                    del self._due[name]
            for name in sorted({*sent, *due}):
                if self._closed.is_set():
                    return
                if not self._look_after(name, whole=name in due):
                    return

    def _look_after(self, name: str, *, whole: bool) -> bool:
        try:
            if whole:
                self._maintenance.run(name)
            elif not self._maintenance.merge_sent(name):
                with self._lock:
                    self._sent.add(name)  # too young: look again
        except Replaced:
            return False
        except (BackupError, OSError) as error:
            log.warning('maintenance of the backup of "%s" failed, will try again: %s', name, error)
            self.touched(name)
        return True
