"""The role state machine: takes the lease or follows who holds it, for as long as the node lives.

States and what is true in them:

    looking     not writable, no primary known. Asks the lease backend, every `reconnect_delay` or when it says so.
    replica     not writable; a stream to the primary is open or being opened.
    primary     writable, with a lease whose time has not run out; streams are served.

The way into *primary* ends with `set_writable(True)` and the way out of it begins with `set_writable(False)`: between
losing the lease and refusing commits there is no await.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import trio

from litefs.errors import LeaseError, LitefsError
from litefs.leases import FOREVER, HandoffNotSupported, Lease, LeaseExpired, LeaseHeld, LeaseUnavailable, PrimaryInfo
from litefs.store.store import clock

if TYPE_CHECKING:
    from litefs.cluster.role import Role
    from litefs.leases import Leaser
    from litefs.replication.server import StreamServer
    from litefs.store import Store

log = logging.getLogger(__name__)

RENEW_RETRY = 1.0
"""Seconds between tries to renew a lease whose backend does not answer."""

LOOK = 1.0
"""Seconds after which the clock is looked at again: it goes on while the machine is suspended, trio's does not."""

RELEASE_LIMIT = 2.0
"""Seconds that giving the lease up may take at shutdown."""

HANDOFF_LIMIT = 5.0
"""Seconds for a request to hand over, on either side."""


class Follower(Protocol):
    """Replicates from a primary (`litefs.replication.client.ReplicationClient`)."""

    async def follow(self, url: str) -> str | None:
        """Return when the stream ends, with the id of a lease that was handed over. Raises LitefsError."""

    async def request_handoff(self, url: str) -> None:
        """Ask a primary to hand its lease over to this node. Raises StreamError."""


class RoleMachine:
    """Runs a node's part in the cluster.

    Args:
        store: made writable while this node is primary.
        role: kept up to date.
        leaser: the lease backend.
        streams: ended when this node is no longer primary.
        make_follower: called once, when there is a primary to follow.
        reconnect_delay: seconds between two looks for a primary.
        clock: by which the time of a lease is measured, in seconds.
    """

    def __init__(
        self,
        store: Store,
        role: Role,
        leaser: Leaser,
        streams: StreamServer,
        make_follower: Callable[[], Follower],
        *,
        reconnect_delay: float = 1.0,
        clock: Callable[[], float] = clock,
    ) -> None:
        self._store = store
        self._role = role
        self._leaser = leaser
        self._streams = streams
        self._make_follower = make_follower
        self._follower: Follower | None = None
        self._reconnect_delay = reconnect_delay
        self._clock = clock
        self._lease: Lease | None = None
        self._handed_over = trio.Event()
        self._stepping_down = trio.CancelScope()
        self._node = f"{store.node_id:016X}"

    async def run(self) -> None:
        """Work until cancelled; then give the lease up, if this node has it."""
        lease_id: str | None = None
        while True:
            try:
                found = await self._find(lease_id)
            except LeaseError as error:
                log.info("%s: %s", self._node, _refusal(error, handed_over=lease_id is not None))
                found = None
            lease_id = None
            if isinstance(found, PrimaryInfo):
                lease_id = await self._follow(found)
            elif found is not None:
                await self._lead(*found)
                if not self._handed_over.is_set():
                    continue
            if lease_id is None:
                await self._pause()

    async def promote(self) -> None:
        """Ask the primary to hand over to this node; returns when it has agreed.

        Raises:
            LeaseError: this node may not become primary, or there is no primary.
            StreamError: the primary refused, or did not answer.
        """
        if self._role.is_primary:
            return
        if not self._role.candidate:
            raise LeaseError("not eligible to become primary")
        if self._role.primary is None:
            raise LeaseError("no primary is currently available for handoff, cannot promote")
        await self._following().request_handoff(self._role.primary.advertise_url)

    async def handoff(self, node_id: int) -> None:
        """Hand the lease over to a connected node and step down.

        Raises:
            LeaseError: this node is not primary, or its lease cannot be handed over.
            StreamError: no such node is connected.
        """
        lease = self._lease
        if lease is None or not self._role.is_primary:
            raise LeaseError("node is not currently primary")
        if node_id not in self._streams.peers:
            raise LeaseError("target node is not currently connected")
        if not lease.supports_handoff:
            raise HandoffNotSupported(self._leaser.type)
        with trio.move_on_after(HANDOFF_LIMIT) as limit:
            await lease.renew()
        if limit.cancelled_caught:
            raise LeaseUnavailable("the lease could not be renewed in time")
        self._store.set_writable(False)
        self._streams.handoff(node_id, lease.id)
        self._handed_over.set()
        self._stepping_down.cancel()

    # --------------------------------------------------------------------------------------------------- looking

    async def _find(self, lease_id: str | None) -> PrimaryInfo | tuple[Lease, float] | None:
        """The primary to follow, or the lease and the time from which it counts; None to look again later."""
        existing = await self._leaser.cluster_id()
        own = self._store.cluster_id
        if existing and own and existing != own:
            text = '%s: cannot connect, "%s" lease already initialized with different ID: %s'
            log.error(text, self._node, self._leaser.type, existing)
            return None
        if lease_id is not None:
            log.info("%s: acquiring existing lease from handoff", self._node)
            started = self._clock()
            return await self._leaser.acquire_existing(lease_id), started
        primary = await self._leaser.primary()
        if primary is not None and not self._is_self(primary):
            return primary
        if not self._role.candidate:
            text = "%s: cannot find primary & ineligible to become primary, retrying: no primary"
            log.info(text, self._node)
            return None
        if existing and not own:
            text = '%s: cannot become primary, local node has no cluster ID and "%s" lease already initialized with '
            log.error(text + "cluster ID %s", self._node, self._leaser.type, existing)
            return None
        started = self._clock()
        try:
            return await self._leaser.acquire(), started
        except LeaseHeld as error:
            if error.primary is None or self._is_self(error.primary):
                raise
            return error.primary

    def _is_self(self, primary: PrimaryInfo) -> bool:
        """Whether the backend still names this node, from before it stepped down or was restarted.

        Only for candidates: a replica with a static lease has its primary's URL as its own.
        """
        return self._role.candidate and primary.advertise_url == self._leaser.advertise_url

    async def _pause(self) -> None:
        with trio.move_on_after(self._reconnect_delay):
            await self._leaser.wait_change()

    # --------------------------------------------------------------------------------------------------- replica

    def _following(self) -> Follower:
        if self._follower is None:
            self._follower = self._make_follower()
        return self._follower

    async def _follow(self, primary: PrimaryInfo) -> str | None:
        """Be a replica until the stream ends. The id of a lease that was handed over, or None."""
        text = '%s: existing primary found (%s), connecting as replica to "%s"'
        log.info(text, self._node, primary.hostname, primary.advertise_url)
        self._role.follow(primary)
        try:
            lease_id = await self._following().follow(primary.advertise_url)
        except LitefsError as error:
            log.info("%s: disconnected from primary with error, retrying: %s", self._node, error)
            return None
        finally:
            self._role.follow(None)
        log.info("%s: disconnected from primary, retrying", self._node)
        return lease_id

    # --------------------------------------------------------------------------------------------------- primary

    async def _lead(self, lease: Lease, started: float) -> None:
        """Be primary until the lease is over, was handed over, or the node stops."""
        log.info("%s: primary lease acquired, advertising as %s", self._node, self._leaser.advertise_url)
        self._lease, self._handed_over = lease, trio.Event()
        try:
            await self._settle_cluster_id()
            with trio.CancelScope() as self._stepping_down:
                self._store.set_writable(True, until=started + lease.ttl)
                self._role.lead()
                await self._keep(lease, started)
        except (LitefsError, OSError) as error:
            self._stop_leading()
            log.error("%s: primary lease lost, retrying: %s", self._node, error)
        finally:
            self._stop_leading()
            self._lease = None
            await self._let_go(lease)

    def _stop_leading(self) -> None:
        self._store.set_writable(False)
        self._role.follow(None)
        self._streams.end_all()

    async def _let_go(self, lease: Lease) -> None:
        if self._handed_over.is_set():
            log.info("%s: exiting primary, preserving lease for handoff", self._node)
            return
        log.info("%s: exiting primary, destroying lease", self._node)
        with trio.CancelScope(deadline=trio.current_time() + RELEASE_LIMIT, shield=True) as limit:
            try:
                await lease.release()
            except LeaseError as error:
                log.warning("%s: cannot release the lease, it will run out: %s", self._node, error)
        if limit.cancelled_caught:
            log.warning("%s: the lease backend does not answer, the lease will run out", self._node)

    async def _settle_cluster_id(self) -> None:
        """Have node and lease agree on the cluster's id; made up by the first primary there is.

        Stored here first: a node that dies in between must not find a cluster that it cannot prove to belong to.
        """
        existing = await self._leaser.cluster_id()
        if existing:
            log.info('%s: using existing cluster id: "%s"', self._node, existing)
            self._store.set_cluster_id(existing)
            return
        own = self._store.cluster_id or f"LFSC{secrets.randbits(64):016X}"
        self._store.set_cluster_id(own)
        await self._leaser.set_cluster_id(own)
        log.info('%s: set cluster id on "%s" lease "%s"', self._node, self._leaser.type, own)

    async def _keep(self, lease: Lease, started: float) -> None:
        """Renew the lease at half its time, for as long as that works.

        Args:
            started: when the request that got the lease was sent; its time counts from there.

        Raises:
            LeaseExpired: it is over, or nobody can say in time that it is not.
        """
        if lease.ttl == FOREVER:
            await trio.sleep_forever()
        while True:
            await self._sleep_until(started + lease.ttl / 2)
            started = await self._renew(lease, started + lease.ttl)
            self._store.set_writable(True, until=started + lease.ttl)

    async def _sleep_until(self, moment: float) -> None:
        """Trio's sleep does not count the time for which the machine is suspended: so never sleep for long."""
        while (left := moment - self._clock()) > 0:
            await trio.sleep(min(left, LOOK))

    async def _renew(self, lease: Lease, deadline: float) -> float:
        """Renew before the deadline; the time at which the successful request was sent."""
        with trio.move_on_after(max(0.0, deadline - self._clock())):
            while True:
                started = self._clock()
                try:
                    await lease.renew()
                    return started
                except LeaseUnavailable as error:
                    log.warning("%s: lease renewal error, retrying: %s", self._node, error)
                if self._clock() + RENEW_RETRY >= deadline:
                    break
                await trio.sleep(RENEW_RETRY)
        raise LeaseExpired("the lease could not be renewed in time")


def _refusal(error: LeaseError, *, handed_over: bool) -> str:
    if handed_over:
        return f"cannot acquire existing lease from handoff, retrying: {error}"
    return f"cannot acquire lease or find primary, retrying: {error}"
