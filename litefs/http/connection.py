"""One accepted connection: reads the socket, feeds the protocol, writes what it says, and ends in every case.

The counterpart of Hypercorn's TCPServer, whose connections outlive a client that is gone until its keep-alive is over,
cannot be cancelled while a client does not read, and take the whole server down with an unexpected exception.
"""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Any

import trio
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError, H11Protocol

from litefs.http.h2 import H2Protocol
from litefs.http.inbox import Tasks

log = logging.getLogger("litefs.http")

RECEIVE = 256 << 10  # bytes per read: uploads at 2.3 GB/s; 1.1 with 64 KiB, 1.4 with 1 MiB
HANDSHAKE = 10.0  # seconds for TLS to be set up
FIRST_REQUEST = 30.0  # seconds until the head of the first request must be complete
LINGER = 1.0  # seconds that a client has to read our last words, and that requests have to end without a client

STALL = 30.0  # seconds that a client may keep its receive window shut; what it was sent would be held all the time
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 9}  # seconds, seconds, probes: those of Go
NOT_SENT = 1 << 20  # bytes; with trio's 16 KiB a big response runs at 2.7 instead of 4 GB/s on loopback


class Connection:
    """Speaks HTTP/1.1 or HTTP/2 with one client."""

    def __init__(
        self, app: Any, config: Any, context: Any, stream: trio.SocketStream, tls: ssl.SSLContext | None = None
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._socket = stream.socket
        self._stream: trio.abc.Stream = stream
        self._tls = tls
        self._protocol: H11Protocol | H2Protocol
        self._send_lock = trio.Lock()
        self._idle_timer: trio.CancelScope | None = None
        self._reading = True
        self._new = True  # nothing is agreed on yet
        self._timers: trio.Nursery
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Serve the connection until it ends. Raises nothing but Cancelled."""
        try:
            _set_options(self._socket)
            async with trio.open_nursery() as self._timers:
                async with trio.open_nursery() as self._nursery:
                    await self._serve()
                self._timers.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.TooSlowError):
            pass  # reset by the client, or no TLS handshake in time
        except* Exception as errors:
            log.debug("http: connection closed after an error", exc_info=errors)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the socket, whoever is just using it; also wakes writers that wait for a client that does not read."""
        self._socket.close()

    async def _serve(self) -> None:
        client, server = _address(self._socket.getpeername()), _address(self._socket.getsockname())
        self._common = (self._tls is not None, client, server, self._send)
        if await self._handshake() == "h2":
            await self._speak_http2(b"")
        else:
            self._speak_http1()
        await self._idle(True, FIRST_REQUEST)
        self._new = False
        await self._read()
        self._reading = False
        await self._idle(False)
        await self._protocol.handle(Closed())
        self._timers.start_soon(self._linger)

    # -- protocols

    async def _handshake(self) -> str | None:
        """Set TLS up, if there is to be any; the protocol that was agreed on."""
        if self._tls is None:
            return None
        secure = trio.SSLStream(self._stream, self._tls, server_side=True, https_compatible=True)
        with trio.fail_after(HANDSHAKE):
            await secure.do_handshake()
        self._stream = secure
        agreed: str | None = secure.selected_alpn_protocol()
        return agreed

    def _speak_http1(self) -> None:
        self._protocol = H11Protocol(
            self._app,
            self._config,
            self._context,
            Tasks(self._nursery),  # type: ignore[arg-type]
            {},  # type: ignore[arg-type]
            *self._common,
        )

    async def _speak_http2(self, data: bytes, headers: Any = None, settings: bytes | None = None) -> None:
        tasks = Tasks(self._nursery)
        self._protocol = H2Protocol(self._app, self._config, self._context, tasks, {}, *self._common)
        await self._protocol.initiate(headers, settings)
        if data:
            await self._protocol.handle(RawData(data=data))

    async def _received(self, data: bytes) -> None:
        try:
            await self._protocol.handle(RawData(data=data))
        except H2ProtocolAssumedError as error:
            await self._speak_http2(error.data)
        except H2CProtocolRequiredError as error:
            await self._speak_http2(error.data, error.headers, error.settings)

    # -- the socket

    async def _read(self) -> None:
        while True:
            try:
                data = await self._stream.receive_some(RECEIVE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if self._reading:
                await self._received(bytes(data))
            if not data:
                return

    async def _send(self, event: Any) -> None:
        """Take an event from the protocol."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Updated):
            await self._idle(event.idle)
        elif isinstance(event, Closed):
            await self._close()

    async def _write(self, data: bytes) -> None:
        # Shielded: an application that is cancelled, because its HTTP/2 stream was reset, must not leave half a frame
        # behind for the other streams. `abort` is what ends a write.
        try:
            with trio.CancelScope(shield=True):
                async with self._send_lock:
                    await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._protocol.handle(Closed())

    async def _close(self) -> None:
        """No more will be sent. Closing at once would reset the connection and lose an answer that is on its way."""
        if not self._reading:
            return
        self._reading = False
        await self._idle(False)
        try:
            if isinstance(self._stream, trio.SocketStream):
                await self._stream.send_eof()
            else:
                await self._stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            self.abort()
        await self._protocol.handle(Closed())
        self._timers.start_soon(self._linger)

    async def _linger(self) -> None:
        await trio.sleep(LINGER)
        self.abort()
        self._nursery.cancel_scope.cancel()

    # -- idle connections

    @property
    def idle(self) -> bool:
        """Whether no request is under way: none has come, or not all of its head."""
        return self._new or self._idle_timer is not None

    async def _idle(self, idle: bool, limit: float | None = None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if idle and self._reading:
            timeout = self._config.keep_alive_timeout if limit is None else limit
            self._idle_timer = await self._nursery.start(self._close_when_idle, timeout)

    async def _close_when_idle(self, timeout: float, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            with trio.move_on_after(timeout):
                await self._context.terminated.wait()
            scope.shield = True
            await self._protocol.handle(Closed())
            self.abort()


def _set_options(stream: trio.socket.SocketType) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL * 1000))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT)


def _address(name: Any) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None
