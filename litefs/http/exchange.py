"""A request and the ways to answer it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import trio
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from litefs.http.errors import HTTPError

Write = Callable[[bytes | bytearray | memoryview], Awaitable[None]]

NODE_ID = re.compile(r"[0-9A-Fa-f]{16}")

DRAIN = 5.0  # seconds that the rest of a request's body is read for, before an error is answered


class Exchange(Request):
    """One request: Starlette's, with LiteFS's reading of parameters, and streamed answers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.started = False
        self._body_ended = False
        query: bytes = scope["query_string"]
        self._parameters = parse_qs(
            query.decode("utf-8", "surrogateescape"), keep_blank_values=True, errors="surrogateescape"
        )

    def param(self, name: str) -> str:
        """The first query parameter of that name, empty if there is none."""
        return self._parameters.get(name, [""])[0]

    @property
    def peer_id(self) -> int:
        """Node id that the client gave in Litefs-Id; 0 when missing or malformed, as in LiteFS."""
        text = self.headers.get("litefs-id", "")
        return int(text, 16) if NODE_ID.fullmatch(text) else 0

    @property
    def cookie(self) -> str:
        """The Cookie header; over HTTP/2 it may come in pieces."""
        return "; ".join(self.headers.getlist("cookie"))

    @property
    def http2(self) -> bool:
        """Whether it came over HTTP/2."""
        return bool(self.scope["http_version"] == "2")

    # -- body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece, exactly as received.

        Raises:
            HTTPError: the client went away before the end.
        """
        while not self._body_ended:
            message = await self._receive_message()
            if message["type"] == "http.disconnect":
                raise HTTPError(400, "request body: unexpected EOF")
            if message.get("body"):
                yield message["body"]

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes of it.

        Raises:
            HTTPError: it is longer, or cut short.
        """
        pieces: list[bytes] = []
        size = 0
        async for piece in self.chunks():
            size += len(piece)
            if size > limit:
                raise HTTPError(413, f"request body exceeds {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def drain(self) -> None:
        """Read and drop the rest of the body.

        A client that is still sending does not look at the answer, and loses it when the connection is closed on it.
        """
        with trio.move_on_after(DRAIN):
            while not self._body_ended:
                if (await self._receive_message())["type"] == "http.disconnect":
                    return

    async def _receive_message(self) -> Message:
        message = await self.receive()
        self._body_ended = not message.get("more_body", False)
        return message

    # -- answer

    @asynccontextmanager
    async def respond(self, media_type: str, length: int | None = None) -> AsyncIterator[Write]:
        """Send status 200 and the headers; what is written inside the block is the body.

        Each write waits until the client takes it. The block is cancelled when the client goes away. An exception in
        it, and a body shorter than `length`, break the response off, so that the client cannot take it for complete.
        """
        await self.drain()
        headers = [(b"content-type", media_type.encode())]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_disconnect, nursery.cancel_scope)
            yield self._write
            await self._send({"type": "http.response.body", "body": b""})
            nursery.cancel_scope.cancel()

    async def _write(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _watch_for_disconnect(self, scope: trio.CancelScope) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


@asynccontextmanager
async def until(event: trio.Event) -> AsyncIterator[None]:
    """Cancel the block when the event happens."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_after, event, nursery.cancel_scope)
        yield
        nursery.cancel_scope.cancel()


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
