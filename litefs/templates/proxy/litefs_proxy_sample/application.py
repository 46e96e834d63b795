"""What happens to a request. TODO: put your rules into `Application.decide`."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from litefs.cluster.role import Role
from litefs.leases import PrimaryInfo

READS = frozenset({"GET", "HEAD", "OPTIONS"})

# Of one connection, not of the request.
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)

PATIENCE = {"connect": 5.0, "read": 60.0, "write": 60.0, "pool": 5.0}  # seconds


class Application:
    """An ASGI application that forwards.

    Args:
        target: URL of the application behind it.
        role: what this node is in its cluster.
        port: of this proxy; the other nodes' proxies are expected on the same.
        retry_after: seconds that clients are told to wait while there is no primary.
    """

    def __init__(self, target: str, role: Role, port: int, *, retry_after: float) -> None:
        self._target = httpx.URL(target)
        self._role = role
        self._port = port
        self._retry_after = retry_after
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))

    async def __aenter__(self) -> Application:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})
        request = Request(scope, receive)
        response = self.decide(request) or await self._forward(request)
        await response(scope, receive, send)
        return None

    def decide(self, request: Request) -> Response | None:
        """The answer of the proxy itself; None where the application here gets the request."""
        if request.method in READS or self._role.is_primary:
            return None
        if self._role.primary is None:
            seconds = str(math.ceil(self._retry_after))
            return PlainTextResponse("no primary available\n", 503, {"retry-after": seconds})
        return Response(status_code=307, headers={"location": self._at(self._role.primary, request)})

    def _at(self, primary: PrimaryInfo, request: Request) -> str:
        host = urlsplit(primary.advertise_url).hostname or primary.hostname
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}{_path(request).decode('latin-1')}"

    async def _forward(self, request: Request) -> Response:
        headers = [item for item in request.headers.raw if item[0] not in HOP_BY_HOP]
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        forwarded = httpx.Request(
            request.method,
            self._target.copy_with(raw_path=_path(request)),
            headers=headers,
            content=request.stream() if has_body else None,
            extensions={"timeout": PATIENCE},
        )
        try:
            answer = await self._transport.handle_async_request(forwarded)
        except (httpx.TransportError, ClientDisconnect) as error:
            return PlainTextResponse(f"the application cannot be reached: {type(error).__name__}\n", 502)
        response = StreamingResponse(_body(answer), answer.status_code)
        response.raw_headers = [
            (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in HOP_BY_HOP
        ]
        return response


def _path(request: Request) -> bytes:
    """Path and query as the client has sent them."""
    query: bytes = request.scope["query_string"]
    path: bytes = request.scope["raw_path"]
    return path + b"?" + query if query else path


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()
