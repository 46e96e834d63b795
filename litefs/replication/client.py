"""The replica's side of replication: one connection to a primary, from the request to the end of the stream."""

from __future__ import annotations

import logging
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from litefs.errors import LitefsError, StreamError
from litefs.ltx import Header, Pos
from litefs.replication import members, posmap, wire
from litefs.replication.applier import Applier, ApplyFailed, NeedsRestart
from litefs.replication.members import Member
from litefs.replication.receiver import Observer, Receiver, Terms
from litefs.replication.wire import Response

if TYPE_CHECKING:
    from litefs.store import Store

log = logging.getLogger(__name__)

DRAIN = 10.0
"""Seconds to apply what a lost primary had sent before looking for the next primary."""

TAKE_OVER = 2.5
"""Seconds to apply what came before a lease that is handed over: the giver waits no longer for it to be taken."""

_LOOKS = 4
_DIVERGED = 2  # sum of doubts in a database from which on a snapshot is asked for
_HOPELESS = 8  # and from which on it is left alone


def _nobody() -> Member | None:
    return None


class ReplicationClient:
    """Follows a primary, again and again; remembers what it learned about its peers and databases.

    Attributes:
        lags: for each database that a transaction was applied to, the seconds from its commit to its apply.

    Args:
        store: where transactions are applied.
        observer: is told of heartbeats and readiness.
        databases: names to replicate; all when empty.
        token: bearer token for the primary, or "".
        tls: how to verify the primary of an https URL; the system's default when None.
        introduce: this node, as the primary shall know it.
        learned: is told of the nodes of the cluster that the primary knows.
        terms: is told of the primary's term.
    """

    def __init__(
        self,
        store: Store,
        observer: Observer,
        *,
        databases: Sequence[str] = (),
        token: str = "",
        tls: ssl.SSLContext | None = None,
        introduce: Callable[[], Member | None] = _nobody,
        learned: Callable[[list[Member]], None] = lambda found: None,
        terms: Terms | None = None,
    ) -> None:
        self.store = store
        self._observer = observer
        self._databases = tuple(databases)
        self._token = token
        self._tls = tls
        self._receiver: Receiver | None = None
        self.lags: dict[str, float] = {}
        self._introduce = introduce
        self._learned = learned
        self._terms = terms
        self._cut: Callable[[str], None] | None = None
        self._http2_peers: set[str] = set()
        self._failures: Counter[str] = Counter()

    async def follow(self, url: str) -> str | None:
        """Connect, apply what comes, return when the primary ends the stream.

        Returns:
            The id of the lease that the primary hands over, or None.

        Raises:
            StreamError: no connection, it broke, the peer refused or broke the protocol, or a database could not
                take what was sent.
        """
        while True:
            given_up = self._given_up()
            body = posmap.encode(await self._positions(given_up))
            try:
                async with AsyncExitStack() as stack:
                    response = await self._open(stack, url, body)
                    self._check_cluster(response)
                    return await self._receive(response, given_up)
            except NeedsRestart as error:
                log.info("connecting again: %s", error)
            except ApplyFailed as error:
                # A position that does not fit may be a race, and the next request tells the primary the true one.
                # Anything else, or the same again: what is here cannot be built upon, so ask for all of it.
                self._failures[error.name] += error.doubt
                raise

    @property
    def reads(self) -> int:
        """Moves with everything that arrives from the primary."""
        return self._receiver.reads if self._receiver is not None else 0

    def cut(self, reason: str) -> None:
        """End the connection as if it were lost: what has arrived is applied. Nothing if there is none."""
        if self._cut is not None:
            self._cut(reason)

    def _given_up(self) -> frozenset[str]:
        """Databases that cannot be mended, or whose disk has failed: left out, so that the others go on."""
        names = frozenset(name for name, doubt in self._failures.items() if doubt >= _HOPELESS)
        for name in names:
            self._failures[name] = _HOPELESS - 1  # the next connection tries once more
            log.error('"%s" is not replicated until the next connection: it cannot be mended by a snapshot', name)
        return names | self.store.failed

    async def _positions(self, given_up: frozenset[str]) -> dict[str, Pos]:
        positions = await self.store.positions(self._databases or None)
        for name, doubt in self._failures.items():
            if doubt >= _DIVERGED and name in positions and name not in given_up:
                del positions[name]
                log.warning('asking for a snapshot of "%s": its transactions do not fit what is here', name)
        return positions

    # ------------------------------------------------------------------------------------------------- connecting

    async def _open(self, stack: AsyncExitStack, url: str, body: bytes) -> Response:
        """Enter `_connect`, unless `cut` ends the wait for the answer."""
        why: list[str] = []
        with trio.CancelScope() as waiting:

            def cut(reason: str) -> None:
                why.append(reason)
                waiting.cancel()

            self._cut = cut
            try:
                return await stack.enter_async_context(self._connect(url, body))
            finally:
                self._cut = None
        raise StreamError(why[0])

    @asynccontextmanager
    async def _connect(self, url: str, body: bytes) -> AsyncIterator[Response]:
        """The open stream: HTTP/1.1 if the peer is of our kind, else h2c. Which one it is is remembered."""
        if url not in self._http2_peers:
            async with wire.post_http1(
                url, self._path, body, self._headers(self._introduction()), self._tls
            ) as response:
                if response.status == 200:
                    yield response
                    return
                await self._refused(response, allow=wire.OTHER_HTTP_VERSION)
        async with wire.post_http2(url, self._path, body, self._headers({})) as response:
            if response.status != 200:
                self._http2_peers.discard(url)
                await self._refused(response)
            self._http2_peers.add(url)
            yield response

    def _introduction(self) -> dict[str, str]:
        member = self._introduce()
        term = {members.TERM: str(self._terms.held)} if self._terms is not None else {}
        return {**wire.MARK, **term, **(member.headers() if member is not None else {})}

    @property
    def _path(self) -> str:
        return wire.stream_path(self._databases)

    def _headers(self, extra: Mapping[str, str]) -> dict[str, str]:
        headers = {"Litefs-Id": f"{self.store.node_id:016X}", **extra}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    async def _refused(self, response: Response, allow: int = 0) -> None:
        if response.status != allow:
            raise StreamError(f"invalid response: code={response.status} {await wire.error_text(response)}".rstrip())

    def _check_cluster(self, response: Response) -> None:
        theirs, ours = response.headers.get("litefs-cluster-id", ""), self.store.cluster_id
        if not theirs or theirs == ours:
            return
        if ours:
            text = f"cannot stream from primary with a different cluster id: {theirs} <> {ours}"
            raise StreamError(text, "to join its cluster, stop this node and run: litefs cluster reset")
        self.store.set_cluster_id(theirs)

    # -------------------------------------------------------------------------------------------------- receiving

    async def _receive(self, response: Response, given_up: frozenset[str] = frozenset()) -> str | None:
        failure: list[Exception] = []
        lease_id: str | None = None
        reading = trio.CancelScope()

        def failed(error: Exception) -> None:
            failure.append(error)
            reading.cancel()

        async with trio.open_nursery() as nursery:
            applier = Applier(nursery, self.store.node_id, failed, self._applied)
            receiver = Receiver(
                self.store, applier, self._observer, self._databases, given_up, self._learned, self._terms
            )
            self._receiver = receiver
            nursery.start_soon(_watch, receiver, failed)
            self._cut = lambda reason: failed(StreamError(reason))
            try:
                with reading:
                    lease_id = await receiver.run(response)
            except (LitefsError, OSError) as error:
                failure.append(error)
            finally:
                self._cut = self._receiver = None
            # What has arrived is whole and verified, and the primary that sent it may be gone for good.
            with trio.move_on_after(DRAIN if lease_id is None else TAKE_OVER) as patience:
                await applier.drain()
            if lease_id is not None and patience.cancelled_caught:
                failure.append(StreamError("cannot take over: applications keep a database locked"))
            nursery.cancel_scope.cancel()
        applier.discard()
        if failure:
            raise _as_stream_error(failure[0])
        return lease_id

    def _applied(self, name: str, header: Header) -> None:
        self.lags[name] = max(0.0, time.time() - header.timestamp / 1000)
        del self._failures[name]


async def _watch(receiver: Receiver, failed: Callable[[Exception], None]) -> None:
    """Notice a peer that has fallen silent. Looking on now and then is cheaper than a deadline for each read."""
    seen, quiet = -1, 0
    while quiet < _LOOKS:
        await trio.sleep(wire.SILENCE / _LOOKS)
        quiet = quiet + 1 if receiver.waiting and receiver.reads == seen else 0
        seen = receiver.reads
    failed(wire.silent())


def _as_stream_error(error: Exception) -> StreamError:
    return error if isinstance(error, StreamError) else StreamError(f"cannot store what was received: {error}")
