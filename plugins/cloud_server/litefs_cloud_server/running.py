"""The server's process: from the socket to the signal that ends it."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

import trio
from litefs_backup_store.levels import Levels
from litefs_backup_store.objects import Objects

from litefs.http.address import bind, is_loopback
from litefs.http.serve import serve
from litefs.http.tls import server_context
from litefs_cloud_server.app import build
from litefs_cloud_server.calls import Server
from litefs_cloud_server.clusters import Clusters
from litefs_cloud_server.registry import Registry
from litefs_cloud_server.tokens import Tokens

log = logging.getLogger("litefs_cloud_server")


def run(place: Callable[..., Objects], address: str, tls_cert: str, tls_key: str) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError, OSError for an address that cannot be had."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format='level=%(levelname)s msg="%(message)s"')
    tls = server_context(tls_cert, tls_key) if tls_cert else None
    tokens = Tokens(place())
    registry = Registry(place(), tokens)
    clusters = Clusters(lambda name: place("clusters", name), Levels(), registry.add)
    tokens.all()  # a place that cannot be used is said now
    with bind(address, "-addr") as listener:
        scheme = "https" if tls else "http"
        port = listener.getsockname()[1]
        if tls is None and not is_loopback(listener):
            log.warning("tokens and backups cross the network in plain text: set -tls-cert, or put a proxy before it")
        log.info("litefs cloud listening on: %s://%s:%d, kept in %s", scheme, "localhost", port, place().url)

        async def main() -> None:
            app = build(Server(tokens, registry, clusters))
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                await serve(app, [listener], lambda: anext(aiter(signals)), tls=tls)

        try:
            trio.run(main)
        finally:
            clusters.close()
