"""Accepts connections, ends those whose time is over, and leaves in an orderly way."""

from __future__ import annotations

import errno
import logging
import socket
from time import monotonic

import trio

from litefs_proxy_fly import sockets
from litefs_proxy_fly.accesslog import AccessLog
from litefs_proxy_fly.client import Client, Limits
from litefs_proxy_fly.connection import Connection
from litefs_proxy_fly.forwarded import Forwarded
from litefs_proxy_fly.outcomes import OUTCOMES
from litefs_proxy_fly.primaries import Primaries
from litefs_proxy_fly.rules import Rules
from litefs_proxy_fly.upstream import Pool

log = logging.getLogger(__name__)

ACCEPT_PAUSE = 0.1  # seconds without accepting when the process has no file descriptors left
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Server:
    """The proxy on a listening socket.

    Args:
        most: connections at a time; the others wait in the kernel until one ends.
        primaries: where requests for the primary go.
        node: this node, as one of a request's hops.
        forwarded: tells the application where requests are from.
        access_log: has a line for each request.
        timing: whether clients are told how long requests had to wait.

    Attributes:
        closing: whether it takes no more requests.
    """

    def __init__(
        self,
        listener: socket.socket,
        rules: Rules,
        pool: Pool,
        limits: Limits,
        *,
        most: int,
        primaries: Primaries,
        node: bytes,
        forwarded: Forwarded | None,
        access_log: AccessLog | None,
        timing: bool,
    ) -> None:
        self._listener = listener
        self._rules = rules
        self._pool = pool
        self._limits = limits
        self._most = most
        self._clients: dict[Client, None] = {}  # in the order in which they came
        self._left = trio.Event()  # set, and replaced, when one ends
        self._accepting = trio.CancelScope()
        self.primaries = primaries
        self.node = node
        self.forwarded = forwarded
        self.access_log = access_log
        self.timing = timing
        self.closing = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until `close`, and until the requests of that moment are done."""
        async with trio.open_nursery() as background:
            background.start_soon(self._watch)
            if self.access_log is not None:
                background.start_soon(self.access_log.run)
            async with trio.open_nursery() as connections:
                with self._listener, self._accepting:
                    task_status.started()
                    await self._accept(connections)
            background.cancel_scope.cancel()
        self._pool.close()
        self.primaries.close()

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
            await self._room()
            try:
                sock, address = self._listener.accept()
            except OSError as error:
                if error.errno in _SHORT:
                    log.error("proxy: cannot accept connections: %s", error)
                    await trio.sleep(ACCEPT_PAUSE)
                continue  # otherwise: the client has left already
            connections.start_soon(self._serve, sock, address[0])

    async def _room(self) -> None:
        """Wait until one more connection is allowed; what has been idle for longest makes room."""
        if len(self._clients) < self._most:
            return
        log.warning("proxy: %d connections are open, no more are accepted for now", len(self._clients))
        while len(self._clients) >= self._most:
            idle = min((each for each in self._clients if each.idle), key=lambda each: each.deadline, default=None)
            if idle is not None:
                idle.leave()
            await self._left.wait()

    async def _serve(self, sock: socket.socket, address: str) -> None:
        with sock:
            try:
                sockets.prepare(sock)
            except OSError:
                return
            client = Client(sock, self._limits, address)
            self._clients[client] = None
            OUTCOMES.connections += 1
            try:
                await Connection(self, client, self._rules, self._pool).run()
            finally:
                del self._clients[client]
                OUTCOMES.connections -= 1
                self._left.set()
                self._left = trio.Event()

    async def _watch(self) -> None:
        """Time limits: one look at all connections costs less than a timer for each request."""
        while True:
            await trio.sleep(self._limits.tick)
            now = monotonic()
            for client in list(self._clients):
                client.expire(now)
            self._pool.expire(now)
            self.primaries.expire(now)
