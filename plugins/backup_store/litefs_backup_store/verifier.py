"""Reading the whole backup at times, while this node writes it: damage should be known before it is needed."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from litefs import jsontext
from litefs.backup import BackupError, Verification
from litefs_backup_store.objects import ObjectChanged, ObjectMissing, Objects
from litefs_backup_store.verifying import Stopped

log = logging.getLogger("litefs.backup.verifier")  # of a node's own parts, what is no warning is shown as well

KEY = "verified.json"
"""What came of the last time; so a new primary does not begin anew."""

AGAIN = 600.0
"""Seconds until it is tried again when it could not be done."""


class Verifier:
    """Verifies when it is time to, until closed.

    Args:
        verify: reads everything, as `litefs_backup_store.verifying.verify_apart` does; asked whether it is wanted.
        interval: seconds from the end of one time to the next.

    Attributes:
        last: what came of the last time, whoever did it.
    """

    def __init__(self, objects: Objects, verify: Callable[[Callable[[], bool]], Verification], interval: float) -> None:
        self.last: Verification | None = None
        self._objects = objects
        self._verify = verify
        self._interval = interval
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._main, name="litefs-backup-verification", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop soon."""
        self._closed.set()

    def _main(self) -> None:
        wait = 0.0
        while not self._closed.wait(wait):
            try:
                wait = self._round()
            except Stopped:
                return
            except (BackupError, OSError) as error:
                log.warning("the backup cannot be verified now, will try again: %s", error)
                wait = min(AGAIN, self._interval)

    def _round(self) -> float:
        """Verify if it is time to; the seconds until it is."""
        stored, version = self._load()
        self.last = stored or self.last
        wait = stored.time + self._interval - time.time() if stored is not None else 0.0
        if wait > 0:
            return min(wait, self._interval)  # a clock may have been set back
        self.last = found = self._verify(lambda: not self._closed.is_set())
        _tell(found)
        try:
            self._objects.replace(KEY, json.dumps(asdict(found)).encode(), version)
        except ObjectChanged:
            log.info("another node has verified the backup, too")
        return self._interval

    def _load(self) -> tuple[Verification | None, str | None]:
        try:
            data, version = self._objects.get(KEY)
        except ObjectMissing:
            return None, None
        try:
            content = jsontext.loads(data)
            found = Verification(**{**content, "problems": tuple(map(str, content["problems"]))})
            return replace(found, time=float(found.time), count=int(found.count)), version
        except (ValueError, KeyError, TypeError):
            return None, version


def _tell(found: Verification) -> None:
    if not found.count:
        log.info("backup verified: databases=%d elapsed=%.1fs ok", found.databases, found.seconds)
        return
    log.error("backup verified: databases=%d elapsed=%.1fs problems=%d", found.databases, found.seconds, found.count)
    for problem in found.problems:
        log.error("the backup is damaged: %s", problem)
