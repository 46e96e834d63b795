"""Where the primary's proxy is, and connections to it."""

from __future__ import annotations

import json
from time import monotonic
from urllib.parse import urlsplit

from litefs.cluster.peers import Peers
from litefs.errors import StreamError
from litefs.leases import PrimaryInfo
from litefs_proxy_fly.target import TCP
from litefs_proxy_fly.upstream import Pool, Unreachable

LIMIT = 2.0  # seconds for the primary to say where its proxy is
FRESH = 30.0  # seconds for which that is remembered


class Primaries:
    """Knows the proxies of primaries; only that of the last one asked for is kept.

    Args:
        peers: asks other nodes.
        port: of this node's proxy: that of LiteFS's nodes, which do not tell, is believed to be the same.
    """

    def __init__(self, peers: Peers, port: int) -> None:
        self._peers = peers
        self._port = port
        self._primary = ""
        self._asked = 0.0
        self._url = ""
        self._pool: Pool | None = None

    async def url(self, primary: PrimaryInfo) -> str:
        """``http://HOST:PORT`` of its proxy.  Raises Unreachable."""
        if self._primary != primary.advertise_url or monotonic() - self._asked > FRESH:
            url = await self._ask(primary)
            if url != self._url:
                self.close()
            self._primary, self._url, self._asked = primary.advertise_url, url, monotonic()
        return self._url

    async def pool(self, primary: PrimaryInfo) -> Pool:
        """Connections to its proxy.  Raises Unreachable."""
        url = await self.url(primary)
        if self._pool is None:
            self._pool = Pool(_address(url), patience=0.0)
        return self._pool

    def forget(self) -> None:
        """What is known did not work: ask again."""
        self._primary = ""

    def expire(self, now: float) -> None:
        """Close connections that nobody has needed for long."""
        if self._pool is not None:
            self._pool.expire(now)

    def close(self) -> None:
        """Close all connections that are idle."""
        if self._pool is not None:
            self._pool.close()
        self._pool = None
        self.forget()

    async def _ask(self, primary: PrimaryInfo) -> str:
        try:
            answer = await self._peers.request("GET", primary.advertise_url, "/status?databases=none", timeout=LIMIT)
        except (StreamError, OSError) as error:
            raise Unreachable(f"primary {primary.hostname}: {error}") from None
        if answer.status == 404:  # LiteFS
            host = urlsplit(primary.advertise_url).hostname or ""
            return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"
        try:
            url = str(json.loads(answer.body)["proxyURL"])
            _address(url)
        except (ValueError, KeyError, TypeError):
            raise Unreachable(f"primary {primary.hostname} does not say where its proxy is: {answer.text}") from None
        return url


def _address(url: str) -> TCP:
    """Where that is.  Raises ValueError for what is not ``http://HOST[:PORT]``."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(url)
    return TCP(parts.hostname, parts.port or 80)
