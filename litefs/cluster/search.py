"""What a node does that is neither primary nor replica: look for the primary, or take the lease where there is none."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from litefs.cluster.tenure import Tenure
from litefs.errors import LeaseError
from litefs.leases import LeaseExpired, LeaseHeld, LeaseUnavailable, PrimaryInfo

if TYPE_CHECKING:
    from litefs.cluster.election import Election
    from litefs.cluster.kept import KeptLease
    from litefs.cluster.role import Role
    from litefs.leases import Lease, Leaser
    from litefs.store import Store

log = logging.getLogger(__name__)

TAKE_LIMIT = 3.0
"""Seconds that the target of a hand-over has to take the lease; longer than that, and its giver may destroy it."""


class Search:
    """Asks one lease backend.

    Args:
        store: says which cluster this node belongs to.
        role: says whether it may become primary.
        leaser: the lease backend.
        election: looks around before a lease is taken.
        kept: the lease of this node, if it died as primary.
        wait_change: returns when the lease may have moved, for the tenures that come of it.
        clock: in seconds.
        node: this node, for the log.
    """

    def __init__(
        self,
        store: Store,
        role: Role,
        leaser: Leaser,
        election: Election,
        kept: KeptLease,
        wait_change: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        node: str,
    ) -> None:
        self._store = store
        self._role = role
        self._leaser = leaser
        self._election = election
        self._kept = kept
        self._wait_change = wait_change
        self._clock = clock
        self._node = node
        self._back_at = -math.inf  # time of the clock until which this node does not compete
        self._reached = True  # the backend has answered when it was asked last
        self._cluster = ""  # whose id it had then

    def stand_back(self, seconds: float) -> None:
        """Do not compete for the lease for so long."""
        self._back_at = self._clock() + seconds

    @property
    def _stands_back(self) -> bool:
        return self._clock() < self._back_at

    @property
    def eligible(self) -> bool:
        """Whether this node could take the lease now, if it were free."""
        competes = self._role.candidate and not self._stands_back
        return competes and self._reached and self._cluster in ("", self._store.cluster_id)

    async def look(self, lease_id: str | None) -> PrimaryInfo | Tenure | None:
        """The primary to follow, or the lease; None to look again later."""
        try:
            found = await self._take_handed(lease_id) if lease_id is not None else await self._find()
        except LeaseError as error:
            self._reached = not isinstance(error, LeaseUnavailable)
            log.info("%s: %s", self._node, _refusal(error, handed_over=lease_id is not None))
            return None
        self._reached = True
        return found

    async def _take_handed(self, lease_id: str) -> Tenure:
        log.info("%s: acquiring existing lease from handoff", self._node)
        return await self._take_over(lease_id)

    async def _take_up_again(self, lease_id: str) -> Tenure:
        log.info("%s: acquiring the lease again that this node had when it died", self._node)
        try:
            return await self._take_over(lease_id)
        except LeaseExpired:
            self._kept.forget()
            raise

    async def _take_over(self, lease_id: str) -> Tenure:
        started = self._clock()
        with trio.move_on_after(TAKE_LIMIT):
            return self._begin_tenure(await self._leaser.acquire_existing(lease_id), started)
        raise LeaseUnavailable(f"the lease backend does not answer within {TAKE_LIMIT:g} s")

    async def _find(self) -> PrimaryInfo | Tenure | None:
        existing = await self._leaser.cluster_id()
        own = self._store.cluster_id
        self._cluster = existing or ""
        if existing and own and existing != own:
            text = '%s: cannot connect, "%s" lease already initialized with different ID: %s; this node belongs to %s, '
            hint = "to have it join that cluster as a replica, stop it and run: litefs cluster reset"
            log.error(text + hint, self._node, self._leaser.type, existing, own)
            return None
        primary = await self._leaser.primary()
        if primary is not None and not self._is_self(primary):
            return primary
        if not self._role.candidate:
            text = "%s: cannot find primary & ineligible to become primary, retrying: no primary"
            log.info(text, self._node)
            return None
        if existing and not own:
            text = '%s: cannot become primary, local node has no cluster ID and "%s" lease already initialized with '
            hint = "cluster ID %s; if its databases are of that cluster, stop it and run: litefs cluster adopt %s"
            log.error(text + hint, self._node, self._leaser.type, existing, existing)
            return None
        if primary is not None and (kept := self._kept.id) is not None:
            return await self._take_up_again(kept)
        if self._stands_back:
            left = self._back_at - self._clock()
            log.info("%s: cannot find primary; demoted, not competing for another %.1f s", self._node, left)
            return None
        return await self._compete()

    async def _compete(self) -> PrimaryInfo | Tenure | None:
        if await self._election.must_wait():
            return None
        started = self._clock()
        try:
            lease = await self._leaser.acquire()
        except LeaseHeld as error:
            if error.primary is None or self._is_self(error.primary):
                raise
            return error.primary
        return self._begin_tenure(lease, started)

    def _begin_tenure(self, lease: Lease, started: float) -> Tenure:
        return Tenure(lease, started, self._store, self._clock, self._node, self._kept, self._wait_change)

    def _is_self(self, primary: PrimaryInfo) -> bool:
        """Whether the backend still names this node, from before it stepped down or was restarted.

        Only for candidates: a replica with a static lease has its primary's URL as its own.
        """
        return self._role.candidate and primary.advertise_url == self._leaser.advertise_url


def _refusal(error: LeaseError, *, handed_over: bool) -> str:
    if handed_over:
        return f"cannot acquire existing lease from handoff, retrying: {error}"
    return f"cannot acquire lease or find primary, retrying: {error}"
