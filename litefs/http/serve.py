"""Serving the API on a bound socket until told to stop."""

from __future__ import annotations

import logging
import resource
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from starlette.types import ASGIApp

from litefs.http.connection import Connection

log = logging.getLogger("litefs.http")

GRACE = 1.0  # seconds that requests have to end after the trigger
IDLE = 120.0  # seconds until an idle connection is closed; LiteFS keeps them, a Go client retries on a closed one

LEAST_CONNECTIONS = 64  # that are served at once, however few files the process may have open

_FOREVER = 1 << 62


async def serve(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    shutdown_trigger: Callable[[], Awaitable[object]],
    *,
    tls: ssl.SSLContext | None = None,
    grace: float = GRACE,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 and HTTP/2 on listening sockets, which are closed at the end; with `tls`, nothing else but TLS.

    Returns at most `grace` seconds after the trigger; what is still open then is cut off. Reports itself started as
    soon as connections are accepted.
    """
    context = WorkerContext(None)
    connections: dict[Connection, None] = {}  # the oldest first
    limit = max_connections()

    async def handle(stream: trio.SocketStream) -> None:
        if len(connections) >= limit and not _make_room(connections):
            await trio.aclose_forcefully(stream)
            return
        connection = Connection(app, config, context, stream, tls)
        connections[connection] = None
        try:
            await connection.run()
        finally:
            connections.pop(connection, None)

    config = _config()
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(_nonblocking(each))) for each in sockets]

    def abort() -> None:
        for connection in list(connections):
            connection.abort()

    async with trio.open_nursery() as timers:
        async with trio.open_nursery() as handlers:
            try:
                async with trio.open_nursery() as accepting:
                    await accepting.start(_accept, handle, listeners, handlers)
                    task_status.started()
                    await shutdown_trigger()
                    accepting.cancel_scope.cancel()
                await context.terminated.set()
            except BaseException:
                abort()  # a write to a client that does not read ends by this only, not by cancelling
                raise
            timers.start_soon(_cut_off, grace, abort, handlers.cancel_scope)
        timers.cancel_scope.cancel()


def max_connections() -> int:
    """How many connections are served at once: half of the files that the process may open, the rest is databases'."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(LEAST_CONNECTIONS, soft // 2)


def _make_room(connections: dict[Connection, None]) -> bool:
    """Close the oldest connection that has no request; whether there was one.

    Else whoever can reach the port, with a token or without, could keep everyone else out, or have the node run out of
    files, and commits fail.
    """
    for connection in connections:
        if connection.idle:
            connection.abort()
            del connections[connection]
            return True
    log.warning("http: a connection is refused, %d are busy", len(connections))
    return False


async def _cut_off(grace: float, abort: Callable[[], None], handlers: trio.CancelScope) -> None:
    await trio.sleep(grace)
    handlers.cancel()
    abort()


async def _accept(
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    listeners: list[trio.SocketListener],
    handlers: trio.Nursery,
    task_status: trio.TaskStatus[object],
) -> None:
    await trio.serve_listeners(handle, list(listeners), handler_nursery=handlers, task_status=task_status)


def _nonblocking(listener: socket.socket) -> socket.socket:
    listener.setblocking(False)
    return listener


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.keep_alive_timeout = IDLE
    config.keep_alive_max_requests = _FOREVER  # the limit would cut a replication stream that shares the connection
    return config
