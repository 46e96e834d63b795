"""The HTTP connection that carries a stream: HTTP/1.1 between our own nodes, prior-knowledge h2c to Go LiteFS.

HTTP/1.1 is spoken on a bare socket, heads with h11 and the body with a decoder of our own, because this is the path of
every transaction. The HTTP/2 side is httpx.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import SplitResult, quote, urlsplit

import h11
import trio

from litefs.errors import StreamError
from litefs.replication.chunked import ChunkedBody

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT = 5.0
"""Seconds to connect, and again to send the request."""

SILENCE = 10.0
"""Seconds without a byte after which a peer counts as gone; heartbeats come every second."""

_RECEIVE = 256 << 10
_MAX_ERROR = 4096

MARK = {"Litefs-Stream": "1"}
"""What a node of our own kind sends with an HTTP/1.1 request for a stream."""

OTHER_HTTP_VERSION = 426
"""The answer to one without it, and LiteFS's to any request over HTTP/1.1: ask over HTTP/2."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as the body of a request.

    Attributes:
        path: of the file.
        size: in bytes; so much is sent.
    """

    path: str | os.PathLike[str]
    size: int

    def __len__(self) -> int:
        return self.size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with await trio.open_file(self.path, "rb", buffering=0) as file:
            while piece := await file.read(_RECEIVE):
                yield piece


Body = bytes | Upload


class Response(Protocol):
    """An answer whose body is read as it comes."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields, names in lower case."""

    async def receive(self) -> bytes | memoryview:
        """The next bytes of the body, none at its end.

        Raises:
            StreamError: the connection broke, or (HTTP/2) nothing came for SILENCE seconds.
        """


def stream_path(databases: tuple[str, ...]) -> str:
    """Path and query of a request for these databases, or for all when there are none."""
    if not databases:
        return "/stream"
    names = ",".join(databases).encode("utf-8", "surrogateescape")
    return f"/stream?filter={quote(names, safe=',')}"


def split_url(url: str) -> SplitResult:
    """The parts of an advertise URL; as in LiteFS only scheme, host and port count.

    Raises:
        StreamError: it is no http or https URL with a host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise StreamError(f"cannot connect to {url!r}", "an advertise-url looks like http://HOST:20202")
    return parts


@asynccontextmanager
async def post_http1(
    url: str,
    path: str,
    body: Body,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None = None,
    *,
    method: str = "POST",
    patience: float = SILENCE,
) -> AsyncIterator[Response]:
    """POST, or another method, over HTTP/1.1 on a connection of its own.

    Args:
        url: where to; only scheme, host and port are used.
        tls: how to verify the peer, whose URL must be an https one then; when None, it may be either, and the
            system's default verifies.
        patience: seconds to wait for the answer to begin.

    Raises:
        StreamError: no connection, no answer, or not HTTP.
        OSError: the file that should be sent cannot be read.
    """
    parts = split_url(url)
    stream = await _connect(parts, tls)
    try:
        response = _Http1Response(stream, _authority(parts), patience)
        await response.request(method, path, body, headers)
        yield response
    finally:
        await trio.aclose_forcefully(stream)


async def _connect(parts: SplitResult, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    host = parts.hostname or ""
    if parts.scheme == "http" and tls is not None:
        # Whoever can write to the lease could otherwise have the token sent to him in clear.
        raise StreamError(f"cannot connect to http://{_authority(parts)}: TLS is on here", "turn it on there, too")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            plain = await trio.open_tcp_stream(host, port)
            _keep_alive(plain)
            if parts.scheme == "http":
                return plain
            secure = trio.SSLStream(plain, tls or ssl.create_default_context(), server_hostname=host)
            try:
                await secure.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(plain)
                raise
            return secure
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise StreamError(f"cannot connect to {host}:{port}: {_reason(error)}") from error


def _keep_alive(stream: trio.SocketStream) -> None:
    """Have the kernel notice a peer that vanished without a word, also while nothing is read."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _authority(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _reason(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "timed out"
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(cause) or type(cause).__name__


class _Http1Response:
    """One exchange on one connection."""

    def __init__(self, stream: trio.abc.Stream, authority: str, patience: float) -> None:
        self._patience = patience
        self.status = 0
        self.headers: dict[str, str] = {}
        self._stream = stream
        self._authority = authority
        self._http = h11.Connection(h11.CLIENT)
        self._chunked: ChunkedBody | None = None

    async def request(self, method: str, path: str, body: Body, headers: Mapping[str, str]) -> None:
        """Send the request and read the head of the answer."""
        fields = [("Host", self._authority), ("Content-Length", str(len(body))), *headers.items()]
        request = h11.Request(method=method, target=path, headers=fields)
        try:
            if isinstance(body, bytes):
                await self._send(request, h11.Data(data=body), h11.EndOfMessage())
            else:
                await self._send(request)
                async for piece in body:
                    await self._send(h11.Data(data=piece))
                await self._send(h11.EndOfMessage())
        except trio.BrokenResourceError:
            pass  # a server may answer (426, 503) and close before it has read everything: look for that answer
        except h11.LocalProtocolError as error:
            raise StreamError(f"cannot send the request: {error}") from error
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                break
            if not isinstance(event, h11.InformationalResponse):
                raise StreamError("the peer closed the connection without an answer")
        self.status = event.status_code
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        self._chunked = self._chunked_body()

    async def _send(self, *events: h11.Event) -> None:
        data = b"".join(self._http.send(event) or b"" for event in events)
        try:
            with trio.fail_after(SILENCE):
                await self._stream.send_all(data)
        except trio.TooSlowError as error:
            raise StreamError("the peer does not read the request") from error

    async def receive(self) -> bytes | memoryview:
        """See Response."""
        if self._chunked is None:
            event = await self._event()
            return bytes(event.data) if isinstance(event, h11.Data) else b""
        while (piece := self._chunked.next()) is None:
            if self._chunked.ended:
                return b""
            data = await self._bytes()
            if not data:
                raise StreamError("connection lost: the peer closed it without a word")
            self._chunked.feed(data)
        return piece

    def _chunked_body(self) -> ChunkedBody | None:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return None
        body = ChunkedBody()
        body.feed(self._http.trailing_data[0])
        return body

    async def _event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                with trio.fail_after(self._patience):
                    self._http.receive_data(await self._bytes())
        except trio.TooSlowError:
            raise silent(self._patience) from None
        except h11.RemoteProtocolError as error:
            raise StreamError(f"the peer broke HTTP/1.1: {error}") from error
        return event

    async def _bytes(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(_RECEIVE))
        except trio.BrokenResourceError as error:
            raise StreamError(f"connection lost: {_reason(error)}") from error


def silent(seconds: float = SILENCE) -> StreamError:
    """The error for a peer that has not sent anything for too long."""
    return StreamError(f"nothing received for {seconds:.0f} s")


@asynccontextmanager
async def post_http2(
    url: str,
    path: str,
    body: Body,
    headers: Mapping[str, str],
    *,
    method: str = "POST",
    patience: float = SILENCE,
) -> AsyncIterator[Response]:
    """POST, or another method, over HTTP/2 with prior knowledge and without TLS, which is all that Go LiteFS speaks.

    Raises:
        StreamError: no connection, no answer, or not HTTP/2.
    """
    import httpx

    parts = split_url(url)
    if parts.scheme != "http":
        raise StreamError(f"{_authority(parts)} insists on HTTP/2", "nodes with TLS are asked over HTTP/1.1 only")
    base = f"http://{_authority(parts)}"
    timeout = httpx.Timeout(patience, connect=CONNECT_TIMEOUT, write=SILENCE)
    fields = {**headers, "Content-Length": str(len(body))}
    # Without TLS nothing is verified, and reading the system's certificates would stop the loop for 0.1 s.
    async with httpx.AsyncClient(http1=False, http2=True, timeout=timeout, trust_env=False, verify=False) as client:
        request = client.build_request(method, base + path, content=body, headers=fields)
        try:
            answer = await client.send(request, stream=True)
        except (httpx.HTTPError, OSError) as error:
            raise StreamError(f"cannot connect to {_authority(parts)}: {_http_reason(error)}") from error
        try:
            yield _Http2Response(answer)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await answer.aclose()


def _http_reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


class _Http2Response:
    """An answer of httpx."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.headers: Mapping[str, str] = answer.headers
        self._pieces = answer.aiter_raw()

    async def receive(self) -> bytes:
        """See Response."""
        import httpx

        try:
            async for piece in self._pieces:
                if piece:
                    return piece
        except httpx.TimeoutException:
            raise silent() from None
        except (httpx.HTTPError, OSError) as error:
            raise StreamError(f"connection lost: {_http_reason(error)}") from error
        return b""


async def error_text(response: Response) -> str:
    """The start of an error's body as one line."""
    text = b""
    with trio.move_on_after(SILENCE):
        while len(text) < _MAX_ERROR and (piece := await response.receive()):
            text += piece
    return text[:_MAX_ERROR].decode("utf-8", "replace").strip().replace("\n", " ")
