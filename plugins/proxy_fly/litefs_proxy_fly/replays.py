"""Requests that the application of this node cannot serve: it says so itself, or it tried to write where it cannot."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from litefs.leases import PrimaryInfo
from litefs_proxy_fly.heads import Request, Response

if TYPE_CHECKING:
    from litefs.cluster.role import Role
    from litefs.config import ProxyConfig
    from litefs.store.store import Store

MOST_HOPS = 3  # proxies a request may pass through

_INSTANCE = re.compile(rb"(?:^|[;,\s])instance=([^;,\s]+)")
_STATE = re.compile(rb"(?:^|[;,\s])state=([!-+\--:<-~]+)")


class Elsewhere(NamedTuple):
    """Who gets a request after the application here has had it.

    Args:
        node: which other node; None for the primary, whoever that is by then.
        source: what the application there is told in ``Fly-Replay-Src``; empty for nothing.
    """

    node: PrimaryInfo | None = None
    source: bytes = b""


Watch = Callable[[Response], Elsewhere | None]


class Replays:
    """Looks at answers of the application before the client gets them.

    ``Fly-Replay: instance=HOST`` is for Fly's router; off Fly, where requests are forwarded, it is obeyed here.

    With ``write-on-get: replay`` an answer that says error is looked at as well: if a write was refused on this node's
    mount meanwhile, the primary gets the request. Whose write that was nobody can tell: so a request that fails beside
    one whose write is refused is sent there, too.
    """

    def __init__(self, config: ProxyConfig, store: Store, role: Role) -> None:
        self._store = store
        self._role = role
        self._obeys = config.keys["redirect"] == "forward"
        self.notices = config.keys["write-on-get"] == "replay"

    def watch(self, request: Request, *, read: bool) -> Watch | None:
        """What looks at the answer to a request that begins now; None where nothing has to.

        Args:
            read: whether the request is here because it is one that only reads.
        """
        if not (self._obeys or (self.notices and read)):
            return None
        refused = self._store.refused if self.notices and read else None
        primary = self._role.primary

        def look(response: Response) -> Elsewhere | None:
            if response.replay and self._obeys:
                return self._asked(request, response.replay, primary)
            if response.status >= 500 and refused is not None and refused != self._store.refused:
                return Elsewhere()
            return None

        return look

    def _asked(self, request: Request, value: bytes, before: PrimaryInfo | None) -> Elsewhere | None:
        """Where the application wants the request to go; the primary may be another one than when it looked."""
        found = _INSTANCE.search(value)
        if found is None or len(request.hops) >= MOST_HOPS:
            return None
        role, instance = self._role, found[1]
        source = self._source(value)
        # First, since with a static lease a replica has its primary's name as its own.
        primaries = [primary.hostname.encode() for primary in (before, role.primary) if primary is not None]
        if instance in primaries or (role.primary is None and not role.is_primary):
            return Elsewhere(None, source)
        if instance == role.hostname.encode():
            return None
        node = next((node for node in role.others() if instance == node.hostname.encode()), None)
        return Elsewhere(node, source) if node is not None else None

    def _source(self, value: bytes) -> bytes:
        source = b"instance=%b;t=%d" % (self._role.hostname.encode(errors="replace"), time.time_ns() // 1000)
        state = _STATE.search(value)
        return source + b";state=" + state[1] if state else source
