"""The contract of litefs.leases, on a key in Consul.

A node holds the lease as long as its session exists and locks the leader key. Consul ends a session at the earliest
when its TTL is over, in fact after twice that, and deletes the key with it; after that it refuses the lock to everybody
for the lock delay. A released key stays behind, empty, and can be locked at once.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from litefs.config.durations import parse_duration
from litefs.errors import ConfigError, LeaseError
from litefs.leases import BaseLeaser, ClusterIDConflict, LeaseExpired, LeaseHeld, LeaseUnavailable, PrimaryInfo
from litefs_lease_consul.keys import Keys, decode, encode

if TYPE_CHECKING:
    from litefs_lease_consul.client import Agent
    from litefs_lease_consul.connection import Connection

SESSION_NAME = "litefs"

LOCK_RETRY = 0.1
"""Seconds between two tries for a key that nobody holds and Consul's lock delay keeps."""

CLEANUP_LIMIT = 1.0
"""Seconds to give back what a cancelled `acquire` has."""

WATCH = 15.0
"""Seconds that one blocking query lasts; Consul adds up to a sixteenth."""

WATCH_RETRY = 1.0
"""Seconds until the next query when one failed, and the longest pause after one that returned for nothing."""

_SESSION = re.compile(r"[0-9A-Fa-f-]{36}")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the leader key says.

    Args:
        info: who is announced, or None.
        session: the session that locks it, or empty.
    """

    info: PrimaryInfo | None
    session: str


NOTHING = Entry(None, "")


class ConsulLease:
    """A session that locks the leader key."""

    supports_handoff = True

    def __init__(self, leaser: ConsulLeaser, session: str, ttl: float) -> None:
        self.id = session
        self.ttl = ttl
        self._leaser = leaser

    async def renew(self) -> None:
        """Hold for another ttl.  Raises LeaseExpired, LeaseUnavailable.

        A session outlives the key that it locked: somebody may have deleted it.
        """
        await self._leaser.renew_session(self.id)
        entry = await self._leaser.read()
        if entry.session != self.id:
            raise LeaseExpired(
                f"the key is now held by {entry.info.hostname}" if entry.info else "the key was deleted in Consul"
            )
        if entry.info != self._leaser.info:
            raise LeaseExpired("the lease was handed to another node")

    async def release(self) -> None:
        """Give it up.  Raises LeaseUnavailable."""
        await self._leaser.let_go(self.id)


class ConsulLeaser(BaseLeaser):
    """A node's access to the leader key.

    Args:
        connection: to Consul.
        keys: where the cluster's entries are.
        hostname: this node's name.
        advertise_url: this node's URL.
        ttl: seconds for which a lease holds without renewal.
        lock_delay: seconds for which Consul keeps the key from everybody after a lease was lost.
    """

    type = "consul"

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        hostname: str,
        advertise_url: str,
        *,
        ttl: float = 10.0,
        lock_delay: float = 1.0,
    ) -> None:
        super().__init__(hostname, advertise_url)
        self._connection = connection
        self._keys = keys
        self._ttl = ttl
        self._lock_delay = lock_delay
        # Of the time in which a lease must be renewed, one request that hangs may take no more than a part.
        self._limit = max(1.0, min(5.0, ttl / 4))
        self._seen: Entry | None = None
        self._index: str | None = None

    async def primary(self) -> PrimaryInfo | None:
        """Who is announced, whether or not a session locks the key: so does LiteFS.  Raises LeaseUnavailable."""
        return (await self.read()).info

    async def acquire(self) -> ConsulLease:
        """Take the lease; waits for a lock delay of the usual length.  Raises LeaseHeld, LeaseUnavailable."""
        await self._refuse_if_held()
        # Not so long that much of the lease is over when it is had.
        deadline = trio.current_time() + min(self._lock_delay + 0.5, self._ttl / 4)
        session = await self._create_session()
        try:
            while not await self._lock(session):
                await self._refuse_if_held()
                if trio.current_time() > deadline:
                    raise LeaseUnavailable("Consul still keeps the key from everybody", "its last lease was lost")
                await trio.sleep(LOCK_RETRY)
        except BaseException:
            with trio.move_on_after(CLEANUP_LIMIT, shield=True), suppress(LeaseError):
                await self.let_go(session)
            raise
        return ConsulLease(self, session, self._ttl)

    async def acquire_existing(self, lease_id: str) -> ConsulLease:
        """Take over the session that its holder hands on.  Raises LeaseExpired, LeaseUnavailable."""
        if not _SESSION.fullmatch(lease_id):
            raise LeaseExpired("what was handed over is no session of Consul's")
        ttl = await self.renew_session(lease_id)
        # A session whose key was deleted could lock it anew, but it is nobody's lease any more.
        if (await self.read()).session != lease_id or not await self._lock(lease_id):
            raise LeaseExpired("the session that was handed over does not hold the key")
        return ConsulLease(self, lease_id, ttl)

    async def cluster_id(self) -> str | None:
        """The stored id.  Raises LeaseUnavailable."""
        return (await self._stored_cluster_id())[0] or None

    async def set_cluster_id(self, cluster_id: str) -> None:
        """Store the id.  Raises ClusterIDConflict, LeaseUnavailable."""
        index = 0  # Consul writes only where there is no entry
        for _ in range(3):
            if await self._call(lambda agent, index=index: agent.kv.put(self._keys.cluster_id, cluster_id, cas=index)):
                return
            stored, index = await self._stored_cluster_id()
            if stored == cluster_id:
                return
            if stored:
                raise ClusterIDConflict(stored)
        raise LeaseUnavailable(f"the key {self._keys.cluster_id} keeps changing in Consul")

    async def wait_change(self) -> None:
        """Return when the leader key is not any more as `primary` found it last."""
        seen, index, pause = self._seen, self._index, LOCK_RETRY
        while True:
            try:
                index, entry = await self._query(index)
            except LeaseUnavailable:
                await trio.sleep(WATCH_RETRY)
                index = None  # a Consul that was started afresh counts from 1 again
                continue
            if seen is None:
                seen = entry
            elif entry != seen:
                self._seen, self._index = entry, index
                return
            # While there is no such key, Consul returns whenever any key changes.
            await trio.sleep(pause)
            pause = min(pause * 2, WATCH_RETRY)

    async def aclose(self) -> None:
        """Close the connections; the lease stays until its time is over."""
        await self._connection.aclose()

    # ------------------------------------------------------------------------------------------------ for the lease

    async def read(self) -> Entry:
        """What the leader key says now.  Raises LeaseUnavailable."""
        self._index, self._seen = await self._query()
        return self._seen

    async def renew_session(self, session: str) -> float:
        """Reset a session's timer; seconds for which it holds.  Raises LeaseExpired, LeaseUnavailable."""
        found = await self._call(lambda agent: agent.session.renew(session))
        try:
            # Whoever made the session may be configured with a shorter TTL than this node.
            seconds = parse_duration(found["TTL"])
        except (ConfigError, LookupError, TypeError):
            return self._ttl
        return min(self._ttl, seconds) if seconds > 0 else self._ttl

    async def let_go(self, session: str) -> None:
        """Free the key, if that session still holds it for this node, and end the session.  Raises LeaseUnavailable."""
        entry = await self.read()
        if entry.session == session:
            if entry.info not in (None, self.info):
                return  # handed over: it is the other node's now
            await self._call(lambda agent: agent.kv.put(self._keys.leader, "", release=session))
        await self._call(lambda agent: agent.session.destroy(session))

    # -------------------------------------------------------------------------------------------------------- Consul

    async def _call(self, request: Any, limit: float = 0.0) -> Any:
        return await self._connection.call(request, limit or self._limit)

    async def _query(self, index: str | None = None) -> tuple[str | None, Entry]:
        """Index and content of the leader key; with an index, once it is another one or some time has passed."""

        def request(agent: Agent) -> Any:
            return agent.kv.get(self._keys.leader, index=index, wait=f"{WATCH:g}s")

        index, found = await self._call(request, self._limit + (WATCH * 1.1 if index else 0.0))
        if found is None:
            return index, NOTHING
        try:
            return index, Entry(decode(found["Value"] or b""), str(found.get("Session") or ""))
        except LookupError:
            raise _not_consul() from None
        except ValueError:
            text = f"the key {self._keys.leader} in Consul announces no primary"
            raise LeaseUnavailable(text, "delete it, or change lease.consul.key") from None

    async def _create_session(self) -> str:
        node = self._keys.node
        if node:
            # Shared Consuls allow only what begins with the prefix, sessions on other nodes not. Each time, because
            # a Consul that was started afresh knows nothing of it.
            await self._call(lambda agent: agent.catalog.register(node, "localhost"))
        created = await self._call(
            lambda agent: agent.create_session(name=SESSION_NAME, ttl=self._ttl, lock_delay=self._lock_delay, node=node)
        )
        if not isinstance(created, str) or not _SESSION.fullmatch(created):
            raise _not_consul()
        return created

    async def _lock(self, session: str) -> bool:
        """Announce this node with the session; False when another one has the key, or the lock delay keeps it."""
        value = encode(self.info)
        locked = bool(await self._call(lambda agent: agent.kv.put(self._keys.leader, value, acquire=session)))
        if locked:
            self._seen = Entry(self.info, session)  # its own doing is no change
        return locked

    async def _refuse_if_held(self) -> None:
        entry = await self.read()
        # Without a session it is what an operator wrote, or what was left of this node's own when keys were restored
        # from a copy.
        if entry.session or entry.info not in (None, self.info):
            raise LeaseHeld(entry.info)

    async def _stored_cluster_id(self) -> tuple[str, int]:
        """The id, or an empty string, and the index to replace it."""
        _, found = await self._call(lambda agent: agent.kv.get(self._keys.cluster_id))
        if found is None:
            return "", 0
        try:
            return (found["Value"] or b"").decode(errors="replace").strip(), found["ModifyIndex"]
        except LookupError:
            raise _not_consul() from None


def _not_consul() -> LeaseUnavailable:
    return LeaseUnavailable("an answer is not what Consul answers", "check lease.consul.url")
