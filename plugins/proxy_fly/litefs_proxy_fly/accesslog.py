"""A line in the node's log for each request.

Lines are written in batches by a thread: whoever reads the log may be slow, and requests, let alone those of the mount,
cannot wait for that. What does not fit into the queue is dropped, which the log says then.
"""

from __future__ import annotations

import logging
import time
from time import monotonic

import trio

from litefs_proxy_fly.account import Account

log = logging.getLogger("litefs.proxy.access")

EVERY = 0.2  # seconds between two batches
MOST = 10_000  # lines that may wait
LONGEST = 2048  # bytes of a target that are shown
LAST = 1.0  # seconds for the last batch at the end

Fields = dict[str, str | float]


class AccessLog:
    """Collects lines, and writes them while `run` runs."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Fields]] = []
        self._dropped = 0

    def add(self, account: Account, client: str) -> None:
        """One more line.

        Args:
            account: of a request that is over.
            client: address of who has sent it.
        """
        if len(self._waiting) >= MOST:
            self._dropped += 1
            return
        self._waiting.append((time.time(), _fields(account, client)))

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                await trio.sleep(EVERY)
                await self._flush()
        finally:
            with trio.move_on_after(LAST, shield=True):
                await self._flush()

    async def _flush(self) -> None:
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        dropped, self._dropped = self._dropped, 0
        await trio.to_thread.run_sync(_write, batch, dropped, abandon_on_cancel=True)


def _fields(account: Account, client: str) -> Fields:
    request = account.request
    found: Fields = {"client": client}
    if request is not None:
        found["method"] = request.method.decode("latin-1")
        found["host"] = (request.host or b"").decode("latin-1")
        found["target"] = request.target[:LONGEST].decode("utf-8", "replace")
    found["status"] = account.status
    found["outcome"] = account.outcome
    found["bytes"] = account.sent
    found["ms"] = _milliseconds(monotonic() - account.began)
    if account.waited is not None:
        found["wait-ms"] = _milliseconds(account.waited)
    if account.answered:
        found["app-ms"] = _milliseconds(account.answered - account.began - (account.waited or 0.0))
    return found


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _write(batch: list[tuple[float, Fields]], dropped: int) -> None:
    for created, fields in batch:
        record = log.makeRecord(log.name, logging.INFO, "", 0, "request", (), None, extra={"fields": fields})
        record.created = created
        log.handle(record)
    if dropped:
        log.warning("proxy: %d lines about requests were dropped, the log is read too slowly", dropped)
