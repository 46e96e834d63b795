"""Accepts connections, ends those whose time is over, and leaves in an orderly way."""

from __future__ import annotations

import errno
import logging
import socket
from time import monotonic

import trio

from litefs_proxy_fly import sockets
from litefs_proxy_fly.client import Client, Limits
from litefs_proxy_fly.connection import Connection
from litefs_proxy_fly.rules import Rules
from litefs_proxy_fly.upstream import Pool

log = logging.getLogger(__name__)

ACCEPT_PAUSE = 0.1  # seconds without accepting when the process has no file descriptors left
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """The proxy on a listening socket.

    Attributes:
        closing: whether it takes no more requests.
    """

    def __init__(self, listener: socket.socket, rules: Rules, pool: Pool, limits: Limits) -> None:
        self._listener = listener
        self._rules = rules
        self._pool = pool
        self._limits = limits
        self._clients: set[Client] = set()
        self._accepting = trio.CancelScope()
        self.closing = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until `close`, and until the requests of that moment are done."""
        async with trio.open_nursery() as background:
            background.start_soon(self._watch)
            async with trio.open_nursery() as connections:
                with self._listener, self._accepting:
                    task_status.started()
                    await self._accept(connections)
            background.cancel_scope.cancel()
        self._pool.close()

    def close(self) -> None:
        """Take no more connections and requests."""
        self.closing = True
        self._accepting.cancel()
        self._pool.close()
        for client in list(self._clients):
            client.leave()

    async def _accept(self, connections: trio.Nursery) -> None:
        self._listener.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if error.errno in _SHORT:
                    log.error("proxy: cannot accept connections: %s", error)
                    await trio.sleep(ACCEPT_PAUSE)
                continue  # otherwise: the client has left already
            connections.start_soon(self._serve, sock)

    async def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                sockets.prepare(sock)
            except OSError:
                return
            client = Client(sock, self._limits)
            self._clients.add(client)
            try:
                await Connection(self, client, self._rules, self._pool).run()
            finally:
                self._clients.discard(client)

    async def _watch(self) -> None:
        """Time limits: one look at all connections costs less than a timer for each request."""
        while True:
            await trio.sleep(self._limits.tick)
            now = monotonic()
            for client in list(self._clients):
                client.expire(now)
            self._pool.expire(now)
