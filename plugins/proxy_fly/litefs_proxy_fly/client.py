"""The client's side of a connection: what it has sent, and how long it may take for the next."""

from __future__ import annotations

import contextlib
import math
import socket
from enum import Enum
from time import monotonic

import trio
from trio.lowlevel import wait_readable

from litefs_proxy_fly import sockets
from litefs_proxy_fly.bodies import Body
from litefs_proxy_fly.heads import HEAD_END, MAX_REQUEST_HEAD, BadRequest, Request, hopeless, parse_request

LINGER = 1.0  # seconds that a client has to read a last answer while what it still sends is thrown away
DRAIN_MOST = 256 << 10  # bytes of a body that nobody wants, read so that the connection can go on
DRAIN_LIMIT = 5.0  # seconds for that


class Phase(Enum):
    """What is being waited for."""

    IDLE = "idle"
    HEADER = "header"
    EXCHANGE = "exchange"
    TUNNEL = "tunnel"
    LINGER = "linger"


class ClientGone(Exception):
    """The client has closed the connection, or does not read."""


class Limits:
    """Time limits in seconds, `inf` for none; as in Go, a missing one is that of reading a request.

    Args:
        read, header, write, idle: ``read-timeout`` and so on; 0 is none.
    """

    def __init__(self, *, read: float, header: float, write: float, idle: float) -> None:
        self.read = read or math.inf
        self.header = header or self.read
        self.write = write or math.inf
        self.idle = idle or self.read

    @property
    def tick(self) -> float:
        """How often to look whether one has passed."""
        return max(0.05, min(1.0, min(self.read, self.header, self.write, self.idle) / 4))


class Client:
    """A connection of a client.

    Attributes:
        sock: the socket.
        address: of the other end, without the port.
        data: what has arrived and was not used yet.
        began: when the present request's first bytes were there, by `time.monotonic`.
        phase: what is being waited for.
        deadline: when that has to be over, by `time.monotonic`.
        scope: everything that is done for the connection; cancelled when the deadline has passed.
    """

    def __init__(self, sock: socket.socket, limits: Limits, address: str) -> None:
        self.sock = sock
        self.address = address
        self.limits = limits
        self.data = b""
        self.phase = Phase.HEADER  # the first request is to come at once
        self.began = monotonic()
        self.deadline = self.began + limits.header
        self.scope = trio.CancelScope()
        self.started = False  # whether bytes of the answer to the present request may have been sent
        self.reading = False  # whether parts of the present request are missing

    # --------------------------------------------------------------------------------------------------------- bytes

    async def receive(self, size: int) -> bytes:
        """As `sockets.receive`.  Raises ClientGone."""
        try:
            return await sockets.receive(self.sock, size)
        except OSError:
            raise ClientGone from None

    def begin(self, data: bytes) -> bytes:
        """Send what can be sent at once; the rest of it.  Raises ClientGone."""
        self.started = True
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            return data
        except OSError:
            raise ClientGone from None
        return data[sent:] if sent < len(data) else b""

    async def send(self, data: bytes) -> None:
        """As `sockets.send`.  Raises ClientGone."""
        self.started = True
        try:
            await sockets.send(self.sock, data)
        except OSError:
            raise ClientGone from None

    # ------------------------------------------------------------------------------------------------------ requests

    async def request(self, default_host: bytes) -> Request | None:
        """The next request; None when the client sends no more.  Raises BadRequest, ClientGone."""
        self.started = self.reading = False
        if not self.data:
            try:
                await wait_readable(self.sock)  # every request waits here: no layer of calls in between
                self.data = self.sock.recv(sockets.HEAD)
            except BlockingIOError:
                self.data = await self.receive(sockets.HEAD)
            except OSError:
                raise ClientGone from None
            if not self.data:
                return None
        if self.data[:2] == b"\r\n":  # some clients end a body with an empty line too many
            self.data = self.data[2:]
        self.phase = Phase.HEADER
        self.began = begin = monotonic()
        end = self.data.find(HEAD_END)
        if end < 0:
            self.deadline = begin + self.limits.header
            end = await self._rest_of_head()
            if end < 0:
                return None
        if end > MAX_REQUEST_HEAD:
            raise BadRequest("the request's header is too big", 431)
        end += len(HEAD_END)
        head, self.data = (self.data, b"") if end == len(self.data) else (self.data[:end], self.data[end:])
        request = parse_request(head, default_host)
        self.phase = Phase.EXCHANGE
        # While a body comes both limits hold; `body_read` lifts that of reading.
        self.deadline = self._written_by()
        if request.length:
            self.reading, self.deadline = True, min(begin + self.limits.read, self.deadline)
        return request

    async def _rest_of_head(self) -> int:
        """Read on until the head is there; where it ends, or -1 when the client closes the connection before."""
        data = bytearray(self.data)
        looked = 0
        while (end := data.find(HEAD_END, max(0, looked - 3))) < 0:
            if hopeless(data, max(0, looked - 1)):
                raise BadRequest("malformed request")
            if len(data) > MAX_REQUEST_HEAD:
                raise BadRequest("the request's header is too big", 431)
            looked = len(data)
            piece = await self.receive(sockets.HEAD)
            if not piece:
                return -1
            data += piece
        self.data = bytes(data)
        return end

    def body_read(self) -> None:
        """The present request was read completely."""
        self.reading = False
        self.deadline = self._written_by()

    def _written_by(self) -> float:
        return monotonic() + self.limits.write

    def rest(self) -> None:
        """The answer is out: wait for the next request."""
        self.phase = Phase.IDLE
        self.deadline = monotonic() + self.limits.idle

    # ---------------------------------------------------------------------------------------------------- the ending

    async def drain(self, body: Body) -> bool:
        """Read what is left of a body, if that is not much; whether the connection can go on."""
        total = 0
        with trio.move_on_after(DRAIN_LIMIT):
            while not body.done and total <= DRAIN_MOST:
                data = self.data or await self.receive(sockets.HEAD)
                if not data:
                    return False
                total += len(data)
                _, self.data = body.take(data)
        return body.done

    async def linger(self) -> None:
        """Close the connection so that the last answer arrives: closing at once would reset it."""
        self.phase, self.deadline = Phase.LINGER, math.inf
        with trio.move_on_after(LINGER), contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            while await sockets.receive(self.sock, sockets.HEAD):
                pass

    def expire(self, now: float) -> None:
        """End the connection if its time is over, or if the client left while the application is at work."""
        if now >= self.deadline or (self.phase is Phase.EXCHANGE and sockets.is_reset(self.sock)):
            self.scope.cancel()

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come."""
        return self.phase is Phase.IDLE or (self.phase is Phase.HEADER and not self.data)

    def leave(self) -> None:
        """End the connection if nothing is under way."""
        if self.idle:
            self.scope.cancel()
