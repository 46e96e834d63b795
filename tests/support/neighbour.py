"""Another node, as far as a proxy has to do with it."""

from __future__ import annotations

import json
from typing import Any

import trio

from litefs.leases import PrimaryInfo

from .nodes import free_port
from .proxy import Handler, Reader, Site

WRITTEN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"


class Primary:
    """Another node: its API, which says where its proxy is, and that proxy."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name
        self.api, self.proxy = free_port(), free_port()
        self.status: dict[str, Any] | None = {"proxyURL": f"http://127.0.0.1:{self.proxy}"}
        self.heads: list[bytes] = []
        self.answer = WRITTEN

    async def start(self, handler: Handler | None = None) -> Primary:
        await self._listen(self.api, self._say_status)
        await self._listen(self.proxy, handler or self._take)
        return self

    async def _listen(self, port: int, handler: Handler) -> None:
        async def accept(stream: trio.SocketStream) -> None:
            try:
                async with stream:
                    await handler(stream)
            except (trio.BrokenResourceError, AssertionError):
                pass

        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.site.nursery.start_soon(trio.serve_listeners, accept, listeners)

    async def _say_status(self, stream: trio.SocketStream) -> None:
        assert (await Reader(stream).until(b"\r\n\r\n")).startswith(b"GET /status?databases=none HTTP/1.1\r\n")
        body = json.dumps(self.status).encode()
        status = b"404 Not Found" if self.status is None else b"200 OK"
        await stream.send_all(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    async def _take(self, stream: trio.SocketStream) -> None:
        reader = Reader(stream)
        while True:
            head = await reader.until(b"\r\n\r\n")
            if b"Content-Length: 2" in head:
                head += await reader.exactly(2)
            self.heads.append(head)
            await stream.send_all(self.answer)

    def lead(self) -> None:
        """The site becomes its replica."""
        self.site.store.writable = False
        self.site.role.follow(PrimaryInfo(self.name, f"http://127.0.0.1:{self.api}"))
