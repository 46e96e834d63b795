"""Where the proxies of other nodes are, the primary's above all, and connections to them."""

from __future__ import annotations

from time import monotonic
from urllib.parse import urlsplit

from litefs import jsontext
from litefs.cluster.peers import Peers
from litefs.errors import StreamError
from litefs.leases import PrimaryInfo
from litefs_proxy_fly.target import TCP
from litefs_proxy_fly.upstream import Pool, Unreachable

LIMIT = 2.0  # seconds for a node to say where its proxy is
FRESH = 30.0  # seconds for which that is remembered
MOST = 16  # nodes that are remembered


class Neighbour:
    """The proxy of one other node.

    Args:
        node: which one.
        peers: asks other nodes.
        port: of this node's proxy: that of LiteFS's nodes, which do not tell, is believed to be the same.
    """

    def __init__(self, node: PrimaryInfo, peers: Peers, port: int) -> None:
        self._node = node
        self._peers = peers
        self._port = port
        self._asked = -FRESH
        self._url = ""
        self._pool: Pool | None = None

    async def url(self) -> str:
        """``http://HOST:PORT`` of it.  Raises Unreachable."""
        if monotonic() - self._asked > FRESH:
            url = await self._ask()
            if url != self._url:
                self.close()
            self._url, self._asked = url, monotonic()
        return self._url

    async def pool(self) -> Pool:
        """Connections to it.  Raises Unreachable."""
        url = await self.url()
        if self._pool is None:
            self._pool = Pool(_address(url), patience=0.0)
        return self._pool

    def forget(self) -> None:
        """What is known did not work: ask again."""
        self._asked = -FRESH

    def expire(self, now: float) -> None:
        """Close connections that nobody has needed for long."""
        if self._pool is not None:
            self._pool.expire(now)

    def close(self) -> None:
        """Close all connections that are idle."""
        if self._pool is not None:
            self._pool.close()
        self._pool = None

    async def _ask(self) -> str:
        node = self._node
        try:
            answer = await self._peers.request("GET", node.advertise_url, "/status?databases=none", timeout=LIMIT)
        except (StreamError, OSError) as error:
            raise Unreachable(f"node {node.hostname}: {error}") from None
        if answer.status == 404:  # LiteFS
            host = urlsplit(node.advertise_url).hostname or ""
            return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"
        try:
            url = str(jsontext.loads(answer.body)["proxyURL"])
            _address(url)
        except (ValueError, KeyError, TypeError):
            raise Unreachable(f"node {node.hostname} does not say where its proxy is: {answer.text}") from None
        return url


class Primaries:
    """Knows the proxies of the nodes that were asked for last.

    Args:
        peers, port: see `Neighbour`.
    """

    def __init__(self, peers: Peers, port: int) -> None:
        self._peers = peers
        self._port = port
        self._known: dict[PrimaryInfo, Neighbour] = {}  # those asked for last at the end

    def of(self, node: PrimaryInfo) -> Neighbour:
        """The proxy of a node."""
        found = self._known.pop(node, None) or Neighbour(node, self._peers, self._port)
        self._known[node] = found
        if len(self._known) > MOST:
            self._known.pop(next(iter(self._known))).close()
        return found

    def expire(self, now: float) -> None:
        """Close connections that nobody has needed for long."""
        for neighbour in self._known.values():
            neighbour.expire(now)

    def close(self) -> None:
        """Close all connections that are idle."""
        for neighbour in self._known.values():
            neighbour.close()
        self._known.clear()


def _address(url: str) -> TCP:
    """Where that is.  Raises ValueError for what is not ``http://HOST[:PORT]``."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(url)
    return TCP(parts.hostname, parts.port or 80)
