"""The role state machine: takes the lease or follows who holds it, for as long as the node lives.

States and what is true in them:

    looking     not writable, no primary known. Asks the lease backend, every `reconnect_delay` or when it says so.
    replica     not writable; a stream to the primary is open or being opened.
    primary     writable, with a lease whose time has not run out; streams are served.

The way into *primary* ends with `set_writable(True)` and the way out of it begins with `set_writable(False)`: between
losing the lease and refusing commits there is no await. Giving it away on purpose is `litefs.cluster.handover`.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from litefs.cluster.election import Election
from litefs.cluster.following import Follower, Following
from litefs.cluster.handover import Handover
from litefs.cluster.kept import KeptLease
from litefs.cluster.leasewatch import LeaseWatch
from litefs.cluster.search import Search
from litefs.cluster.tenure import Tenure
from litefs.errors import LeaseError, LitefsError, StreamError
from litefs.leases import HandoffNotSupported, LeaseUnavailable, PrimaryInfo
from litefs.replication.members import Member
from litefs.store.store import clock

if TYPE_CHECKING:
    from litefs.cluster.members import Members
    from litefs.cluster.peers import Peers
    from litefs.cluster.role import Role
    from litefs.cluster.term import Terms
    from litefs.leases import Leaser
    from litefs.replication.server import StreamServer
    from litefs.store import Store

log = logging.getLogger(__name__)

RELEASE_LIMIT = 2.0
"""Seconds that giving the lease up may take at shutdown."""

HANDOFF_LIMIT = 12.0
"""Seconds for a request to hand over, on the side that asks: more than the steps of it have together."""

ALIVE_LIMIT = 4.0
"""Seconds for a primary to show that it answers at all, before it is asked to hand over."""

TAKEN_LIMIT = 5.0
"""Seconds after which a lease that was given and not taken is destroyed."""

LEAVE_LIMIT = 1.0
"""Seconds for a call to the lease backend that is under way when the node stops."""


class RoleMachine:
    """Runs a node's part in the cluster.

    Args:
        store: made writable while this node is primary.
        role: kept up to date.
        leaser: the lease backend.
        streams: ended when this node is no longer primary.
        follower: replicates when there is a primary to follow.
        peers: how other nodes are asked.
        members: which other nodes there are.
        terms: which history this node has.
        reconnect_delay: seconds between two looks for a primary.
        demote_delay: seconds for which a node that was demoted does not become primary again.
        clock: by which the time of a lease is measured, in seconds.
    """

    def __init__(
        self,
        store: Store,
        role: Role,
        leaser: Leaser,
        streams: StreamServer,
        follower: Follower,
        *,
        peers: Peers,
        members: Members,
        terms: Terms,
        reconnect_delay: float = 1.0,
        demote_delay: float = 10.0,
        clock: Callable[[], float] = clock,
    ) -> None:
        self._store = store
        self._role = role
        self._leaser = leaser
        self._streams = streams
        self._peers = peers
        self._members = members
        self._terms = terms
        self._reconnect_delay = reconnect_delay
        self._demote_delay = demote_delay
        self._node = f"{store.node_id:016X}"
        self._election = Election(
            store, peers, members, terms, reconnect_delay=reconnect_delay, clock=clock, node=self._node
        )
        self._handover = Handover(
            store, role, streams, leaser.type, self._stop_leading, self._node, self._election.anybody_else
        )
        self._watch = LeaseWatch(leaser, clock)
        self._following = Following(follower, self._watch, role, self._election.over)
        self._kept = KeptLease(store.data_dir / "lease")
        self._handing = trio.Lock()
        self._tenure: Tenure | None = None
        self._search = Search(store, role, leaser, self._election, self._kept, self._watch.change, clock, self._node)
        self._leaving = False
        self._waiting = trio.CancelScope()

    # ------------------------------------------------------------------------------------------------- what others see

    @property
    def introduction(self) -> Member | None:
        """This node, as others shall know it; None where its URL is that of somebody else."""
        if self._borrowed_url:
            return None
        return Member(self._store.node_id, self._leaser.hostname, self._leaser.advertise_url, self._role.candidate)

    @property
    def _borrowed_url(self) -> bool:
        """A replica with a static lease has its primary's URL as its own."""
        primary = self._role.primary
        return primary is not None and primary.advertise_url == self._leaser.advertise_url

    @property
    def eligible(self) -> bool:
        """Whether this node could become primary now, if the lease were free; true of the primary itself."""
        return not self._leaving and self._search.eligible

    @property
    def lease_type(self) -> str:
        """As in ``lease.type``."""
        return self._leaser.type

    @property
    def lease_remaining(self) -> float | None:
        """Seconds for which this node's lease counts without renewal; infinite for a static one, None without one."""
        return self._tenure.remaining if self._tenure is not None and self._role.is_primary else None

    def _connected(self) -> list[str] | None:
        """URLs of the replicas, if this is the primary."""
        if not self._role.is_primary:
            return None
        return [stream.member.advertise_url for stream in self._streams.open if stream.member is not None]

    # -------------------------------------------------------------------------------------------------------- life

    async def run(self) -> None:
        """Work until `leave`, or until cancelled: then the lease is only released."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._terms.keep)
            nursery.start_soon(self._members.keep, self._connected)
            await self._run()
            nursery.cancel_scope.cancel()

    async def _run(self) -> None:
        lease_id: str | None = None
        while not self._leaving:
            found = await self._search.look(lease_id)
            lease_id = None
            if isinstance(found, Tenure):
                if await self._lead(found):
                    continue
            elif found is not None:
                lease_id = await self._follow(found)
            if lease_id is None:
                await self._pause()

    async def leave(self, ended: trio.Event) -> None:
        """The node stops: hand over to the best candidate if this node is primary, then have `run` return.

        Args:
            ended: set when `run` has returned.
        """
        self._leaving = True
        if self._role.is_primary:
            with suppress(LeaseError):  # lost meanwhile
                await self._resign()
        self._waiting.cancel()
        with trio.move_on_after(LEAVE_LIMIT if self._tenure is None else math.inf):
            await ended.wait()

    def look(self) -> None:
        """Another node says that the lease is free, see `LeaseWatch.hint`."""
        self._watch.hint()

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
        url = self._role.primary.advertise_url
        # One that is stopped is not worth the time that all the steps of a hand-over may take.
        await self._peers.request("GET", url, "/info", timeout=ALIVE_LIMIT)
        path = f"/handoff?nodeID={self._node}"
        answer = await self._peers.request("POST", url, path, timeout=HANDOFF_LIMIT)
        if answer.status != 200:
            raise StreamError(answer.text)

    async def handoff(self, node_id: int) -> None:
        """Hand the lease over to a connected node and step down; returns when it has been given.

        Raises:
            LeaseError: this node is not primary, or its lease cannot be handed over.
            StreamError: no such node is connected, or it could not be brought up to date in time.
        """
        async with self._handing:
            await self._handover.give(self._leading(), node_id)

    async def demote(self, node_id: int | None = None) -> None:
        """Step down and do not compete for `demote_delay`; returns when this node is not primary any more.

        Args:
            node_id: who shall be primary; by default the most advanced connected candidate, or whoever takes it.

        Raises:
            LeaseError, StreamError: as `handoff`; nothing has changed.
        """
        if not self._leading().lease.supports_handoff:
            raise HandoffNotSupported(self._leaser.type)
        self._search.stand_back(self._demote_delay)
        try:
            if node_id is None:
                await self._resign()
            else:
                await self.handoff(node_id)
        except LitefsError:
            self._search.stand_back(0)
            raise

    async def _resign(self) -> None:
        async with self._handing:
            await self._handover.resign(self._leading())

    def _leading(self) -> Tenure:
        if self._tenure is None or not self._role.is_primary:
            raise LeaseError("node is not currently primary")
        return self._tenure

    # --------------------------------------------------------------------------------------------------- looking

    async def _pause(self) -> None:
        vacant, self._following.vacant = self._following.vacant, False
        if self._leaving or vacant:  # nobody has the lease that the last primary had
            return
        with trio.move_on_after(self._reconnect_delay) as self._waiting:
            await self._watch.change()

    # --------------------------------------------------------------------------------------------------- replica

    async def _follow(self, primary: PrimaryInfo) -> str | None:
        """Be a replica until the stream ends. The id of a lease that was handed over, or None."""
        if self._leaving:
            return None
        text = '%s: existing primary found (%s), connecting as replica to "%s"'
        log.info(text, self._node, primary.hostname, primary.advertise_url)
        self._role.follow(primary)
        if not self._borrowed_url:
            self._members.met(primary)
        lease_id = None
        try:
            with trio.CancelScope() as self._waiting:
                lease_id = await self._following.follow(primary)
        except LitefsError as error:
            log.info("%s: disconnected from primary with error, retrying: %s", self._node, error)
            return None
        finally:
            self._role.follow(None)
        log.info("%s: disconnected from primary, retrying", self._node)
        return lease_id

    # --------------------------------------------------------------------------------------------------- primary

    async def _lead(self, tenure: Tenure) -> bool:
        """Be primary until the lease is over, was handed over, or the node stops; whether it ever was."""
        log.info("%s: primary lease acquired, advertising as %s", self._node, self._leaser.advertise_url)
        self._tenure = tenure
        began = False
        try:
            await self._settle(tenure)
            if not self._leaving:
                began = True
                tenure.begin()
                self._role.lead()
                self._election.over()
                self._streams.announce(self._members.announcement())
                await tenure.hold()
        except (LitefsError, OSError) as error:
            self._stop_leading()
            log.error("%s: primary lease lost, retrying: %s", self._node, error)
            if isinstance(error, OSError) and not began:  # another one's disk may be better
                self._search.stand_back(self._demote_delay)
        finally:
            self._stop_leading()
            try:
                await (self._see_it_taken(tenure) if tenure.given else self._release(tenure))
            finally:
                self._tenure = None
        return began

    def _stop_leading(self) -> None:
        if self._tenure is not None:
            self._tenure.stop()
        self._role.follow(None)
        self._streams.end_all()

    async def _release(self, tenure: Tenure) -> None:
        log.info("%s: exiting primary, destroying lease", self._node)
        with trio.CancelScope(deadline=trio.current_time() + RELEASE_LIMIT, shield=True) as limit:
            try:
                await tenure.lease.release()
            except LeaseError as error:
                log.warning("%s: cannot release the lease, it will run out: %s", self._node, error)
        if limit.cancelled_caught:
            log.warning("%s: the lease backend does not answer, the lease will run out", self._node)

    async def _see_it_taken(self, tenure: Tenure) -> None:
        """Wait until the target of a hand-over has the lease; destroy it when that does not come, for an election."""
        log.info("%s: exiting primary, preserving lease for handoff", self._node)
        with trio.move_on_after(TAKEN_LIMIT):
            while await self._watch.is_held_by(PrimaryInfo(self._leaser.hostname, self._leaser.advertise_url)):
                await trio.sleep(min(self._reconnect_delay, TAKEN_LIMIT / 100))
            return
        log.warning("%s: nobody has taken the lease that was handed over", self._node)
        await self._release(tenure)

    async def _settle(self, tenure: Tenure) -> None:
        """Have node and lease agree on the cluster's id, and begin a term, within the lease's time."""
        with trio.move_on_after(tenure.remaining):
            await self._agree_on_cluster_id()
            self._streams.term = await self._terms.begin()
            return
        raise LeaseUnavailable("the lease backend does not answer")

    async def _agree_on_cluster_id(self) -> None:
        """Made up by the first primary there is."""
        # Stored here first: a node that dies in between must not find a cluster that it cannot prove to belong to.
        existing = await self._leaser.cluster_id()
        if existing:
            log.info('%s: using existing cluster id: "%s"', self._node, existing)
            self._store.set_cluster_id(existing)
            return
        own = self._store.cluster_id or f"LFSC{secrets.randbits(64):016X}"
        self._store.set_cluster_id(own)
        await self._leaser.set_cluster_id(own)
        log.info('%s: set cluster id on "%s" lease "%s"', self._node, self._leaser.type, own)
