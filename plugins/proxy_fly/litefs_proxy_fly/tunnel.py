"""A connection that changed its protocol (WebSocket and others): bytes both ways until both ends have had enough."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import trio

from litefs_proxy_fly import sockets
from litefs_proxy_fly.client import Client, ClientGone
from litefs_proxy_fly.upstream import Lost, Upstream


async def tunnel(client: Client, upstream: Upstream) -> None:
    """Pass everything on; ends when both have closed their side, or one is gone."""
    async with trio.open_nursery() as nursery:

        async def copy(
            source: Callable[[int], Awaitable[bytes]], sink: Callable[[bytes], Awaitable[None]], end: socket.socket
        ) -> None:
            try:
                while data := await source(sockets.BODY):
                    await sink(data)
                end.shutdown(socket.SHUT_WR)
            except (ClientGone, Lost, OSError):
                nursery.cancel_scope.cancel()

        async def to_upstream() -> None:
            early, client.data = client.data, b""
            try:
                await upstream.send(early)
            except Lost:
                nursery.cancel_scope.cancel()
            await copy(client.receive, upstream.send, upstream.sock)

        nursery.start_soon(to_upstream)
        nursery.start_soon(copy, upstream.receive, client.send, client.sock)
