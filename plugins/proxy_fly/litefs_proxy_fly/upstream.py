"""Connections to the application: made, kept for the next request, thrown away."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from time import monotonic

import trio
from trio.lowlevel import wait_readable

from litefs_proxy_fly import sockets
from litefs_proxy_fly.heads import HEAD_END, BadResponse
from litefs_proxy_fly.target import Target, Unix

CONNECT_LIMIT = 30.0  # seconds, of one attempt and of all attempts while the application refuses connections
CONNECT_PAUSE = 0.1  # seconds between two of them
IDLE_LIMIT = 60.0  # seconds that a connection is kept for the next request
IDLE_MOST = 256  # connections that are kept

# Seconds after which a kept connection is not used for a request that cannot be sent twice: the application may be just
# closing it, and then nobody knows whether it has heard the request. Many close theirs after 5 s (Node, hypercorn,
# uvicorn), some after 2 s (gunicorn). A new connection costs a tenth of a millisecond.
FRESH = 1.0

# Nobody listens yet, the socket's file is not there yet, as many wait to be accepted as a Unix socket lets.
_NOT_YET = (errno.ECONNREFUSED, errno.ENOENT, errno.EAGAIN)

Address = tuple[socket.AddressFamily, object]


class UpstreamError(Exception):
    """The application could not be asked, or did not answer; the text says why."""


class Unreachable(UpstreamError):
    """There is no connection, so nothing was sent."""


class Lost(UpstreamError):
    """The connection broke.

    Attributes:
        unheard: whether the application cannot have seen anything of the request.
    """

    def __init__(self, why: str, *, unheard: bool = False) -> None:
        super().__init__(why)
        self.unheard = unheard


class Upstream:
    """One connection to the application.

    Attributes:
        reused: whether it has served a request before.
        idle_since: when it was given back.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reused = False
        self.idle_since = 0.0

    async def receive(self, size: int) -> bytes:
        """As `sockets.receive`.  Raises Lost."""
        try:
            return await sockets.receive(self.sock, size)
        except OSError as error:
            raise Lost(_reason(error)) from None

    async def send(self, data: bytes) -> None:
        """As `sockets.send`.  Raises Lost."""
        try:
            await sockets.send(self.sock, data)
        except OSError as error:
            raise Lost(_reason(error)) from None

    async def begin(self, data: bytes) -> None:
        """Send the beginning of a request.  Raises Lost."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise Lost(_reason(error), unheard=True) from None
        if sent < len(data):
            await self.send(data[sent:])

    async def head(self, data: bytes, limit: int) -> tuple[bytes, bytes]:
        """Read the head of a response.

        Args:
            data: what has been read already.
            limit: bytes that it may have.

        Returns the head, and what has been read behind it.  Raises Lost, BadResponse.
        """
        while (end := data.find(HEAD_END)) < 0:
            if len(data) > limit:
                raise BadResponse("the header of the response is too big")
            try:
                await wait_readable(self.sock)  # as in `sockets.receive`, without its layers of calls
                piece = self.sock.recv(sockets.HEAD)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Lost(_reason(error)) from None
            if not piece:
                if data:
                    raise BadResponse("the application closed the connection in the middle of a header")
                raise Lost("the application closed the connection without an answer")
            data = data + piece if data else piece
        end += len(HEAD_END)
        return (data, b"") if end == len(data) else (data[:end], data[end:])

    def close(self) -> None:
        """Close it at once."""
        self.sock.close()


class Pool:
    """Connections to one address.

    Args:
        target: where the application listens.
        patience: seconds for which one is tried again that is refused.
    """

    def __init__(self, target: Target, *, patience: float = CONNECT_LIMIT) -> None:
        self._patience = patience
        self.target = target
        self._idle: deque[Upstream] = deque()
        self._closed = False

    def take(self, *, careful: bool) -> Upstream | None:
        """A connection that is there, the one used last first; None where there is none.

        Args:
            careful: it is for a request that cannot be sent twice: a fresh one, which the application has not closed.
        """
        if careful and self._idle and self._idle[-1].idle_since < monotonic() - FRESH:
            return None
        while self._idle:
            upstream = self._idle.pop()
            if not (careful and sockets.has_ended(upstream.sock)):
                return upstream
            upstream.close()
        return None

    def put(self, upstream: Upstream) -> None:
        """Keep a connection whose last response was read completely."""
        upstream.reused = True
        upstream.idle_since = monotonic()
        self._idle.append(upstream)
        if len(self._idle) > IDLE_MOST or self._closed:
            self._idle.popleft().close()

    def expire(self, now: float) -> None:
        """Close what nobody has needed for long, or the application has closed."""
        while self._idle and (self._idle[0].idle_since < now - IDLE_LIMIT or sockets.has_ended(self._idle[0].sock)):
            self._idle.popleft().close()

    def close(self) -> None:
        """Close what is idle, and wait for no application any more that refuses connections."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def connect(self) -> Upstream:
        """A new connection.  An application that refuses it may just be starting.  Raises Unreachable."""
        give_up = monotonic() + self._patience
        while True:
            try:
                return Upstream(await self._connect())
            except OSError as error:
                if error.errno not in _NOT_YET or self._closed or monotonic() >= give_up:
                    raise Unreachable(f"cannot connect to {self.target.name}: {_reason(error)}") from None
            await trio.sleep(CONNECT_PAUSE)

    async def _connect(self) -> socket.socket:
        failure: OSError = OSError(errno.EHOSTUNREACH, "")
        for family, address in await self._addresses():
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sockets.prepare(sock)
                await _finish(sock, address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
        raise failure

    async def _addresses(self) -> list[Address]:
        target = self.target
        if isinstance(target, Unix):
            return [(socket.AF_UNIX, target.path)]
        try:
            found = await trio.socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise Unreachable(f"cannot look up {target.host}: {error.strerror}") from None
        return [(family, address) for family, _, _, _, address in found]


async def _finish(sock: socket.socket, address: object) -> None:
    with trio.move_on_after(CONNECT_LIMIT):
        error = sock.connect_ex(address)  # type: ignore[arg-type]
        if error == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return
    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
