"""From a connection to the application: the ASGI messages of one request.

Replaces Hypercorn's own task group because of what that does when an application answers before it has read the whole
body: the channel stays full, and connection and application wait for each other for ever.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from litefs.http.errors import ResponseAborted

log = logging.getLogger("litefs.http")

Message = dict[str, Any]
Read = Callable[[int], Awaitable[None]]

PIECES = 8  # pieces of a body that wait for the application over HTTP/1.1; then the connection is not read from

_DISCONNECT = {"type": "http.disconnect"}


class Inbox:
    """Messages for one application.

    Args:
        on_read: told how many body bytes the application took. With it the queue is unbounded: the caller limits it by
            flow control. Without it `put` waits while the queue is full.
    """

    def __init__(self, on_read: Read | None = None) -> None:
        self._send, self._receive = trio.open_memory_channel[Message](math.inf if on_read else PIECES)
        self._on_read = on_read

    async def put(self, message: Message) -> None:
        """Hand a message over; dropped when the application has ended."""
        if message["type"] == "http.disconnect":
            self._send.close()
            return
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._send.send(message)

    async def get(self) -> Message:
        """The next message; http.disconnect again and again once the client is gone."""
        try:
            message = await self._receive.receive()
        except trio.EndOfChannel:
            return _DISCONNECT
        if self._on_read is not None and message.get("body"):
            await self._on_read(len(message["body"]))
        return message

    def close(self) -> None:
        """The application has ended: whatever still arrives is dropped."""
        self._receive.close()


class Tasks:
    """Runs applications in a connection's nursery; what Hypercorn's protocols know as their task group."""

    def __init__(self, nursery: trio.Nursery, on_read: Read | None = None) -> None:
        self._nursery = nursery
        self._on_read = on_read

    async def spawn_app(
        self, app: Any, config: Any, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        """Start the application on a request; returns how it is fed."""
        inbox = Inbox(self._on_read)
        self._nursery.start_soon(_run, app, scope, inbox, send)
        return inbox.put

    def for_stream(self, on_read: Read) -> Tasks:
        """The same nursery for an HTTP/2 stream, with flow control."""
        return Tasks(self._nursery, on_read)


async def _run(app: Any, scope: Any, inbox: Inbox, send: Callable[[Any], Awaitable[None]]) -> None:
    try:
        await app(scope, inbox.get, send)
    except ResponseAborted:
        pass  # logged where it was raised
    except Exception:
        log.exception("http: %s %s failed", scope.get("method"), scope.get("path"))
    finally:
        inbox.close()
        await send(None)
