"""HTTP/2 over cleartext, as LiteFS's own client speaks it.

Hypercorn's HTTP/2 is replaced because a node cannot live with four things seen in 0.18: a client that stops reading
makes it buffer without limit; a response that fails after its headers is never ended; data for an answered request
raises KeyError through the whole server; one slow upload stops every other stream of the connection, the replication
stream included. Here nothing is buffered on the way out, and each stream has its own flow control on the way in.
It also sends several frames at once: 350 MB/s became 1.1 GB/s with curl as the client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, InformationalResponse, Request, Response, StreamClosed
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.utils import filter_pseudo_headers

from litefs.http.inbox import Tasks

STREAM_WINDOW = 1 << 20  # bytes of a request body that wait for the application
CONNECTION_WINDOW = 16 << 20
FRAME = 256 << 10  # largest frame accepted; Go's client uses it, and each frame costs 30 us
BATCH = 256 << 10  # bytes of body that are framed between two writes to the socket
MAX_STREAMS = 1000
MAX_HEAD = 256 << 10  # bytes of a request's head that have arrived without its end

Setting = h2.settings.SettingCodes


class _Stream:
    """One request."""

    def __init__(self) -> None:
        self.http: HTTPStream
        self.unread = 0  # bytes of the body that the application has not taken
        self.response_ended = False


class H2Protocol:
    """A connection's HTTP/2 side; called like Hypercorn's protocols."""

    def __init__(
        self,
        app: Any,
        config: Any,
        context: Any,
        tasks: Tasks,
        state: Any,
        ssl: bool,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._tasks = tasks
        self._state = state
        self._ssl = ssl
        self._client = client
        self._server = server
        self._send = send
        self._streams: dict[int, _Stream] = {}
        self._closed = False
        self._writable = trio.Event()  # replaced whenever a window may have opened
        self._connection = _connection()

    async def initiate(self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None) -> None:
        """Greet the client. After an upgrade from HTTP/1.1, `headers` is the request that becomes stream 1."""
        if settings is None:
            self._connection.initiate_connection()
        else:
            self._connection.initiate_upgrade_connection(settings)
        self._connection.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        await self._flush()
        if headers is not None:
            await self._request(1, headers)
            await self._request_ended(1)

    async def handle(self, event: Any) -> None:
        """Take bytes from the socket, or its end."""
        if isinstance(event, Closed):
            await self._shut_down()
        elif isinstance(event, RawData) and not self._closed:
            try:
                events = self._connection.receive_data(event.data)
                for each in events:
                    await self._received(each)
            except h2.exceptions.ProtocolError:
                await self._flush()
                await self._send(Closed())
            else:
                await self._flush()
                if self._head_size() > MAX_HEAD:
                    await self._send(Closed())

    def _head_size(self) -> int:
        """Bytes of CONTINUATION frames that h2 holds back; it would take 64 of them, 256 KiB each."""
        return sum(frame.body_len for frame in self._connection.incoming_buffer._headers_buffer)

    # -- requests

    async def _received(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            await self._data(event)
        elif isinstance(event, h2.events.RequestReceived):
            await self._request(event.stream_id, list(event.headers))
        elif isinstance(event, h2.events.StreamEnded):
            await self._request_ended(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            await self._forget(event.stream_id)
        elif isinstance(event, h2.events.ConnectionTerminated):
            await self._send(Closed())
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self._wake_writers()

    async def _request(self, stream_id: int, headers: list[tuple[bytes, bytes]]) -> None:
        pseudo = {name: value for name, value in headers if name.startswith(b":")}
        method, path = pseudo[b":method"], pseudo.get(b":path", b"")
        if self._context.terminated.is_set():
            return self._connection.reset_stream(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
        if method == b"CONNECT" or not path.partition(b"?")[0].isascii():
            return self._connection.reset_stream(stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
        stream = self._streams[stream_id] = _Stream()

        async def on_read(size: int) -> None:
            stream.unread -= size
            self._acknowledge(stream_id, size)
            await self._flush()

        stream.http = HTTPStream(
            self._app,
            self._config,
            self._context,
            self._tasks.for_stream(on_read),  # type: ignore[arg-type]
            self._ssl,
            self._client,
            self._server,
            self._respond,
            stream_id,
        )
        await self._send(Updated(idle=False))
        await stream.http.handle(
            Request(
                stream_id=stream_id,
                headers=filter_pseudo_headers(headers),
                http_version="2",
                method=method.decode("ascii").upper(),
                raw_path=path,
                state=self._state,
            )
        )
        return None

    async def _data(self, event: h2.events.DataReceived) -> None:
        stream_id, data = event.stream_id, event.data or b""
        padding = (event.flow_controlled_length or 0) - len(data)
        stream = self._streams.get(stream_id)
        if stream is None:
            # Answered already. The rest is dropped rather than refused: httpx fails when its upload is reset.
            self._acknowledge(stream_id, padding + len(data))
            return
        stream.unread += len(data)
        self._acknowledge(stream_id, padding)
        if data:
            await stream.http.handle(Body(stream_id=stream_id, data=data))

    async def _request_ended(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            await stream.http.handle(EndBody(stream_id=stream_id))

    def _acknowledge(self, stream_id: int, size: int) -> None:
        if size and not self._closed:
            self._connection.acknowledge_received_data(size, stream_id)

    # -- responses

    async def _respond(self, event: Any) -> None:
        """Take a piece of a response from a stream."""
        stream = self._streams.get(event.stream_id)
        if stream is None or self._closed:
            return  # the client is gone
        try:
            if isinstance(event, (Response, InformationalResponse)):
                await self._headers(event)
            elif isinstance(event, Body):
                await self._body(event.stream_id, memoryview(event.data))
            elif isinstance(event, EndBody):
                await self._end(event.stream_id, stream)
            elif isinstance(event, StreamClosed):
                await self._finish(event.stream_id, stream)
        except h2.exceptions.ProtocolError:
            pass  # the client reset the stream or closed the connection while we were about to send

    async def _headers(self, event: Response | InformationalResponse) -> None:
        status = (b":status", b"%d" % event.status_code)
        headers = [status, *event.headers, *self._config.response_headers("h2")]
        self._connection.send_headers(event.stream_id, headers)
        await self._flush()

    async def _body(self, stream_id: int, data: memoryview) -> None:
        connection = self._connection
        while data and stream_id in self._streams and not self._closed:
            size = min(len(data), BATCH, connection.local_flow_control_window(stream_id))
            if size <= 0:
                await self._writable.wait()
                continue
            frame = connection.max_outbound_frame_size
            for start in range(0, size, frame):
                connection.send_data(stream_id, data[start : min(start + frame, size)])
            data = data[size:]
            await self._flush()

    async def _end(self, stream_id: int, stream: _Stream) -> None:
        stream.response_ended = True
        self._connection.end_stream(stream_id)
        await self._flush()

    async def _finish(self, stream_id: int, stream: _Stream) -> None:
        if not stream.response_ended:  # it failed: the client must not take what it has for all
            self._connection.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        await self._forget(stream_id)
        await self._flush()
        if not self._streams:
            await self._send(Updated(idle=True))

    # -- the connection

    async def _forget(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return
        self._wake_writers()
        self._acknowledge(stream_id, stream.unread)  # or the connection's window would shrink for good
        await stream.http.handle(StreamClosed(stream_id=stream_id))

    async def _shut_down(self) -> None:
        if self._closed:
            return
        self._closed = True  # first: a write that fails comes back here
        if not self._streams:
            self._connection.close_connection()
            await self._flush()
        for stream_id in list(self._streams):
            await self._forget(stream_id)
        self._wake_writers()

    def _wake_writers(self) -> None:
        self._writable.set()
        self._writable = trio.Event()

    async def _flush(self) -> None:
        # Nothing may be awaited between taking the bytes and handing them over: frames must leave in this order.
        data = self._connection.data_to_send()
        if data:
            await self._send(RawData(data=data))


def _connection() -> h2.connection.H2Connection:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    connection.local_settings = h2.settings.Settings(
        client=False,
        initial_values={
            Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            Setting.MAX_HEADER_LIST_SIZE: connection.DEFAULT_MAX_HEADER_LIST_SIZE,
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            Setting.MAX_FRAME_SIZE: FRAME,
        },
    )
    connection.max_inbound_frame_size = FRAME
    return connection
