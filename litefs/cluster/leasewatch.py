"""Who has the lease, asked and listened for: the backend tells of changes, and so do other nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from litefs.errors import LeaseError
from litefs.leases import LeaseUnavailable, PrimaryInfo

if TYPE_CHECKING:
    from litefs.leases import Leaser

HINT_INTERVAL = 1.0
"""Seconds between two times that another node may have this one look for the lease."""


class LeaseWatch:
    """Waits for changes of one lease.

    Args:
        leaser: the lease backend.
        clock: in seconds.
    """

    def __init__(self, leaser: Leaser, clock: Callable[[], float]) -> None:
        self._leaser = leaser
        self._clock = clock
        self._hint = trio.Event()
        self._hinted = -math.inf

    def hint(self) -> None:
        """Another node says that the lease is free: do not wait to find out.

        Not too often: nodes that cannot have the lease either would keep each other awake.
        """
        if self._clock() - self._hinted >= HINT_INTERVAL:
            self._hinted = self._clock()
            self._hint.set()

    async def change(self) -> None:
        """Wait until something says that the lease may have moved: the leaser, or another node."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_backend, nursery.cancel_scope)
            await self._hint.wait()
            nursery.cancel_scope.cancel()
        self._hint = trio.Event()

    async def _wait_backend(self, done: trio.CancelScope) -> None:
        try:
            await self._leaser.wait_change()
        except LeaseUnavailable:
            await trio.sleep_forever()
        done.cancel()

    async def is_held_by(self, node: PrimaryInfo) -> bool:
        """Whether the lease is still that of a node, as far as one can know."""
        try:
            now = await self._leaser.primary()
        except LeaseError:
            return True
        return now is not None and now.advertise_url == node.advertise_url
