"""The proxy as a part of a node."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from litefs.config import ProxyConfig
from litefs.extensions import RunningNode
from litefs.http.address import bind
from litefs_proxy_fly import attributes
from litefs_proxy_fly.target import Target

if TYPE_CHECKING:
    from litefs_proxy_fly.forwarded import Forwarded
    from litefs_proxy_fly.server import Server

log = logging.getLogger(__name__)


class FlyProxy:
    """Forwards HTTP requests to the application, or sends them to the primary, as LiteFS's proxy does.

    Args:
        config: the ``proxy`` section.
        target: where the application listens.
    """

    grace = 5.0  # seconds that requests under way get when the node stops

    def __init__(self, config: ProxyConfig, target: Target) -> None:
        self._config = config
        self._target = target
        self._attributes = attributes.configured(config.keys)
        self._forwarded = _forwarded(config)
        self._server: Server | None = None

    async def run(self, node: RunningNode, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled.  Raises ListenError where the address cannot be used."""
        from litefs.cluster.peers import Peers  # late: the node has its mount by now
        from litefs.http.tls import client_context
        from litefs_proxy_fly.accesslog import AccessLog
        from litefs_proxy_fly.client import Limits
        from litefs_proxy_fly.descriptors import connections_allowed
        from litefs_proxy_fly.positions import Positions
        from litefs_proxy_fly.primaries import Primaries
        from litefs_proxy_fly.rules import Rules
        from litefs_proxy_fly.server import Server
        from litefs_proxy_fly.upstream import Pool

        config = self._config
        limits = Limits(
            read=config.read_timeout,
            header=config.read_header_timeout,
            write=config.write_timeout,
            idle=config.idle_timeout,
        )
        listener = bind(config.addr, "proxy.addr")
        http = node.config.http
        tls = client_context(http.tls_ca, http.tls_cert, http.tls_key) if http.secure or http.tls_ca else None
        peers = Peers(node.store.node_id, token=http.auth_token, tls=tls)
        several = isinstance(config.keys["db"], list)
        if several:
            self._compare_lives(node)
        positions = Positions(node.store, config.databases, self._attributes, several=several)
        rules = Rules(config, node.store, node.role, positions)
        self._server = Server(
            listener,
            rules,
            Pool(self._target),
            limits,
            most=connections_allowed(),
            primaries=Primaries(peers, listener.getsockname()[1]),
            node=b"%016X" % node.store.node_id,
            forwarded=self._forwarded,
            access_log=AccessLog() if config.keys["access-log"] else None,
            timing=config.keys["server-timing"],
        )
        node.role.announced["proxyURL"] = self._url(node, listener.getsockname()[1])
        host, port = listener.getsockname()[:2]
        log.info("proxy server listening on: http://%s:%d", f"[{host}]" if ":" in host else host, port)
        node.role.yielders.append(rules.settle)
        try:
            await self._server.run(task_status=task_status)
        finally:
            node.role.yielders.remove(rules.settle)

    def _compare_lives(self, node: RunningNode) -> None:
        """Positions can be told from those of other histories as long as there are LTX files."""
        data, life = node.config.data, self._attributes.life
        if data.retention < life and data.retention_monitor_interval > 0:
            log.warning(
                "proxy: clients keep positions for %g s, transaction files are kept for %g s: "
                "reads with older positions will fail once with 504; set data.retention to more",
                life,
                data.retention,
            )

    def _url(self, node: RunningNode, port: int) -> str:
        """Where other nodes reach this proxy: as configured, or else on the host of the node's API."""
        if given := str(self._config.keys["advertise-url"]):
            return given.rstrip("/")
        host = urlsplit(node.config.lease.advertise_url).hostname or node.role.hostname or socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def leave(self, ended: trio.Event) -> None:
        """Close the listener, then let the requests under way end."""
        if self._server is not None:
            self._server.close()
        await ended.wait()


def _forwarded(config: ProxyConfig) -> Forwarded | None:
    if config.keys["forwarded-headers"] == "none" and not config.keys["trusted-proxies"]:
        return None
    from litefs_proxy_fly import forwarded  # late: it is rarely wanted, and would delay the mount

    return forwarded.configured(config.keys)
