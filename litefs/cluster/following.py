"""Being the replica of one primary, as long as its stream lasts and it has the lease."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import trio

from litefs.errors import LitefsError
from litefs.leases import PrimaryInfo

if TYPE_CHECKING:
    from litefs.cluster.leasewatch import LeaseWatch
    from litefs.cluster.role import Role

QUIET_CHECK = 2.0
"""Seconds without a byte from the primary, after which the lease backend is asked whether it still is one."""

LAST_WORDS = 1.0
"""Seconds for the stream of a primary that is none any more to end in good order."""


class Follower(Protocol):
    """Replicates from a primary (`litefs.replication.client.ReplicationClient`)."""

    @property
    def reads(self) -> int:
        """Moves with everything that arrives."""

    async def follow(self, url: str) -> str | None:
        """Return when the stream ends, with the id of a lease that was handed over. Raises LitefsError."""

    def cut(self, reason: str) -> None:
        """End the stream as if the connection were lost."""


class Following:
    """Follows primaries, one after the other.

    Args:
        follower: replicates.
        watch: tells whether the primary still has the lease.
        role: says when this node is up to date.
        caught_up: called then.

    Attributes:
        vacant: the last primary was left since the lease is not its any more.
    """

    def __init__(self, follower: Follower, watch: LeaseWatch, role: Role, caught_up: Callable[[], None]) -> None:
        self._follower = follower
        self._watch = watch
        self._role = role
        self._caught_up = caught_up
        self.vacant = False

    async def follow(self, primary: PrimaryInfo) -> str | None:
        """Replicate until the stream ends; the id of a lease that was handed over, or None.

        Raises:
            LitefsError: the stream ended with an error.
        """
        self.vacant = False
        lease_id: str | None = None
        failure: LitefsError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_lease, primary)
            nursery.start_soon(self._watch_ready)
            try:
                lease_id = await self._follower.follow(primary.advertise_url)
            except LitefsError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return lease_id

    async def _watch_ready(self) -> None:
        """A primary that has brought this node up to date leaves nothing to wait for."""
        await self._role.synced.wait()
        self._caught_up()

    async def _watch_lease(self, primary: PrimaryInfo) -> None:
        """Do not hang on a primary that has lost the lease, but cannot say so: it is stopped, or out of reach."""
        while True:
            reads = self._follower.reads
            with trio.move_on_after(QUIET_CHECK) as unchanged:
                await self._watch.change()
            if unchanged.cancelled_caught and self._follower.reads != reads:
                continue
            if await self._watch.is_held_by(primary):
                await trio.sleep(QUIET_CHECK / 10)  # whatever the leaser thinks to be a change
                continue
            if self._follower.reads != reads:
                await trio.sleep(LAST_WORDS)
            self.vacant = True
            self._follower.cut(f"{primary.hostname} is not the primary any more")
            return
