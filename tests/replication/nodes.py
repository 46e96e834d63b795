"""Two nodes in one process: the real HTTP server and the real client over loopback, around fake stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio

from litefs.http.address import bind
from litefs.http.app import build
from litefs.http.serve import serve
from litefs.http.services import Services
from litefs.replication.server import StreamServer

from .fakes import FakeStore


class Primary:
    """A served store."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.streams = StreamServer(cast(Any, store), snapshot_limit=30)
        nothing = cast(Any, None)
        self.services = Services(
            cast(Any, store), nothing, self.streams, nothing, nothing, nothing, not_ready=lambda: ""
        )
        self.url = ""
        self.requests: list[tuple[str, str]] = []  # HTTP version and path
        self.forced: tuple[int, bytes] | None = None

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Primary]:
        """Serve on a free port."""
        sock = bind("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        app = build(self.services)

        async def counting(scope: Any, receive: Any, send: Any) -> None:
            self.requests.append((scope["http_version"], scope["path"]))
            if self.forced is not None and scope["http_version"] != "2":
                status, body = self.forced
                await send({"type": "http.response.start", "status": status, "headers": []})
                await send({"type": "http.response.body", "body": body})
            else:
                await app(scope, receive, send)

        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: serve(counting, [sock], stop.wait, grace=0, task_status=task_status)
            )
            try:
                yield self
            finally:
                stop.set()
