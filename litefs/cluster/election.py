"""Who should become primary when the lease is free: the one with the newest history, as far as it can be reached.

The lease alone decides who *is* primary. This only makes a node that would lose transactions step back for a moment, in
favour of one that would not.

The order: a node of a later term (`litefs.cluster.term`) comes first, whatever the other has: that one's last
transactions lost when the later term began. Within a term, and where one of the two has none, a node with more
transactions comes first, counted over all its databases (the sum of their TXIDs). Where one node is ahead in every
database the sum says so; where each is ahead in some, it makes the fewest be lost. Nodes that are equal both try, and
the lease decides. So of two nodes at most one waits for the other, and never for long; several of which some have no
term may all wait for each other, and all go on when the time is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from litefs import jsontext
from litefs.cluster.term import check
from litefs.errors import StreamError

if TYPE_CHECKING:
    from litefs.cluster.members import Members
    from litefs.cluster.peers import Peers
    from litefs.cluster.term import Terms
    from litefs.store import Store

log = logging.getLogger(__name__)

ASK_LIMIT = 1.5
"""Seconds for the others to answer. One whose disk is stuck for a moment may be the one that has most."""

QUESTION = "/status?databases=none"

LEASE_IS_FREE = "&lease=free"
"""Tells the one who is asked that it need not wait any more for a primary that is gone."""

DELAYS = 5
"""Reconnect delays that a node waits for a better one to become primary."""

PATIENCE = 4.0
"""Seconds that it waits at least: for a better node that has to notice first that its primary is silent."""

MOST = 1 << 96
"""Transactions that no node has: who claims more is not listened to."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What another node says of itself.

    Args:
        name: its hostname.
        term: of its data; 0 when not known.
        transactions: over all its databases.
        eligible: whether it could take the lease now.
    """

    name: str
    term: int
    transactions: int
    eligible: bool

    @property
    def rank(self) -> tuple[int, int]:
        """What it has, the best the highest."""
        return self.term, self.transactions

    def outranks(self, other: Standing) -> bool:
        """Whether it would be a loss if the other became primary."""
        if self.term and other.term:
            return self.rank > other.rank
        return self.transactions > other.transactions

    def surplus(self, other: Standing) -> str:
        """What the other lacks, for the log."""
        if self.term > other.term > 0:
            return "a newer history"
        return f"{self.transactions - other.transactions} more transactions"


class Election:
    """Looks around before this node takes a lease that is free.

    Args:
        store: what this node has.
        peers: how to ask.
        members: whom to ask.
        terms: which history this node has.
        patience: seconds to wait for a better node.
        clock: in seconds.
        node: this node, for the log.
    """

    def __init__(
        self,
        store: Store,
        peers: Peers,
        members: Members,
        terms: Terms,
        *,
        reconnect_delay: float,
        clock: Callable[[], float],
        node: str,
    ) -> None:
        self._store = store
        self._peers = peers
        self._members = members
        self._terms = terms
        self.patience = max(PATIENCE, DELAYS * reconnect_delay)
        self._clock = clock
        self._node = node
        self._waiting_since: float | None = None

    def over(self) -> None:
        """There is a primary."""
        self._waiting_since = None

    async def must_wait(self) -> bool:
        """Whether a better node can be reached that should take the lease, and there is still time for it to."""
        found = await self._ask_all(QUESTION + LEASE_IS_FREE)
        own = sum(pos.txid for pos in (await self._store.positions()).values())
        this = Standing("", self._terms.held, own, True)
        best = max((other for other in found if other.outranks(this)), key=lambda other: other.rank, default=None)
        if best is None:
            return False
        more = best.surplus(this)
        now = self._clock()
        if self._waiting_since is None:
            self._waiting_since = now
            log.info("%s: %s has %s: waiting for it to become primary", self._node, best.name, more)
        if now - self._waiting_since < self.patience:
            return True
        text = "%s: %s has %s, but has not become primary within %g s: taking over without them"
        log.warning(text, self._node, best.name, more, self.patience)
        return False

    async def anybody_else(self, but: Collection[str]) -> bool:
        """Whether a node could become primary that is not at one of these URLs."""
        return bool(await self._ask_all(QUESTION, but))

    async def _ask_all(self, question: str, but: Collection[str] = ()) -> list[Standing]:
        """The reachable nodes that could become primary."""
        found: list[Standing] = []

        async def ask(url: str) -> None:
            standing = await self._ask(url, question)
            if standing is None:
                return
            self._terms.heard(standing.term)
            if standing.eligible:
                found.append(standing)

        async with trio.open_nursery() as nursery:
            for member in self._members.others:
                if member.candidate and member.advertise_url not in but:
                    nursery.start_soon(ask, member.advertise_url)
        return found

    async def _ask(self, url: str, question: str) -> Standing | None:
        try:
            answer = await self._peers.request("GET", url, question, timeout=ASK_LIMIT)
            return self._standing(answer.body) if answer.status == 200 else None
        except (StreamError, OSError, ValueError, KeyError, TypeError) as error:
            log.debug("%s: %s does not say what it has: %s", self._node, url, error)
            return None

    def _standing(self, body: bytes) -> Standing | None:
        """Raises ValueError, KeyError or TypeError for what is no status."""
        found: dict[str, Any] = jsontext.loads(body)
        if found["id"] == self._node or found["clusterID"] != self._store.cluster_id:
            return None
        name, term, transactions = str(found["hostname"])[:200], check(found.get("term", 0)), found["transactions"]
        if not isinstance(transactions, int) or not 0 <= transactions < MOST:
            raise ValueError(f"{transactions!r:.50} is no number of transactions")
        return Standing(name, term, transactions, found["eligible"] is True)
