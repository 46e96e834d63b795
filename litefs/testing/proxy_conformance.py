"""What every proxy has to do, as tests that its author runs; see `litefs.testing.suite` for how.

class TestMyProxy(ProxyConformance):
    plugin = litefs_proxy_mine                  # the module (or object) with the hooks
    type = "mine"

The node is a fake, the application and the clients are real, on ports of the loopback interface.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from litefs.errors import LitefsError
from litefs.extensions import Service
from litefs.leases import PrimaryInfo
from litefs.plugins import BUILTIN, Plugin, Plugins
from litefs.testing.running import FakeNode
from litefs.testing.settings import node_info, whole_config
from litefs.testing.suite import Suite, inner

if TYPE_CHECKING:
    import httpx
    from starlette.requests import Request
    from starlette.responses import Response

ELSEWHERE = PrimaryInfo("elsewhere", "http://127.0.0.1:9")  # nobody listens there
BIG = 4 << 20  # bytes of a body that fits into no buffer


class Site:
    """A proxy that runs, with what surrounds it.

    Attributes:
        node: the node it runs in.
        client: asks it.
        seen: requests that the application got, as ``METHOD PATH?QUERY``.
        service: the proxy.
    """

    def __init__(self, node: FakeNode, service: Service, target: int) -> None:
        self.node = node
        self.service = service
        self.target = target
        self.seen: list[str] = []
        self.client: httpx.AsyncClient
        self.held = trio.Event()
        self.ended = trio.Event()

    async def application(self, nursery: trio.Nursery) -> None:
        """Start the application: it answers with the body it got, and with a header that tells what it saw."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        from litefs.http.serve import serve

        methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        listener = socket.create_server(("127.0.0.1", self.target))
        await nursery.start(serve, app, [listener], trio.sleep_forever)

    async def _answer(self, request: Request) -> Response:
        from starlette.responses import Response

        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        self.seen.append(f"{request.method} {target}")
        body = await request.body()
        if request.url.path == "/held":
            await self.held.wait()
        headers = {"x-saw": request.headers.get("x-said", "")}
        return Response(body or b"hello", 201 if request.method == "POST" else 200, headers)


class ProxyConformance(Suite):
    """The suite.  Set the attributes.

    Attributes:
        plugin: the module or object with the hooks.
        type: the word in ``proxy.type``.
        settings: more of the ``proxy`` section.
        keeps_writes: requests that may write never reach the application of a replica.
        limit: seconds that one check may take.
    """

    plugin: object
    type: str
    settings: Mapping[str, Any] = {}
    keeps_writes = True
    limit = 20.0

    # ------------------------------------------------------------------------------------------------------ checks

    async def check_reads(self) -> None:
        """On the primary and on a replica a read is the local application's."""
        async with self._site() as site:
            for become in (site.node.lead, lambda: site.node.follow(ELSEWHERE)):
                become()
                answer = await site.client.get("/a/b%20c?d=%2F&e", headers={"X-Said": "this"})
                assert (answer.status_code, answer.content) == (200, b"hello")
                assert answer.headers["x-saw"] == "this"
            assert site.seen == ["GET /a/b%20c?d=%2F&e"] * 2 or site.seen == ["GET /a/b c?d=%2F&e"] * 2

    async def check_writes_on_the_primary(self) -> None:
        """On the primary a write is the local application's, body and all."""
        async with self._site() as site:
            for method, status in (("POST", 201), ("PUT", 200), ("PATCH", 200), ("DELETE", 200)):
                answer = await site.client.request(method, "/x", content=b"some body")
                assert (answer.status_code, answer.content) == (status, b"some body")
            assert site.seen == ["POST /x", "PUT /x", "PATCH /x", "DELETE /x"]

    async def check_large_bodies(self) -> None:
        """Bodies may be larger than any buffer, with and without a length that is known."""
        data = bytes(range(256)) * (BIG // 256)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 100_000):
                yield data[start : start + 100_000]

        async with self._site() as site:
            assert (await site.client.post("/", content=data)).content == data
            assert (await site.client.post("/", content=pieces())).content == data

    async def check_many_at_once(self) -> None:
        """Clients do not wait for each other."""
        async with self._site() as site, trio.open_nursery() as nursery:
            nursery.start_soon(site.client.get, "/held")
            await _until(lambda: "GET /held" in site.seen)
            for _ in range(20):
                assert (await site.client.get("/")).content == b"hello"
            site.held.set()

    async def check_no_application(self) -> None:
        """An application that is not there yet is waited for, or the answer is an error until it is."""
        async with self._site(application=False) as site, trio.open_nursery() as nursery:
            answers: list[httpx.Response] = []

            async def ask() -> None:
                answers.append(await site.client.get("/"))

            nursery.start_soon(ask)
            with trio.move_on_after(0.2):
                await _until(lambda: bool(answers))
            await site.application(nursery)
            await _until(lambda: bool(answers))
            assert answers[0].status_code >= 500 or answers[0].content == b"hello"
            assert (await site.client.get("/")).content == b"hello"
            nursery.cancel_scope.cancel()

    async def check_writes_on_a_replica(self) -> None:
        """A write on a replica is for the primary: the local application, whose database is read-only, has no part."""
        if not self.keeps_writes:
            return
        async with self._site() as site:
            for primary in (ELSEWHERE, None):
                site.node.follow(primary)
                answer = await site.client.post("/", content=b"x")
                assert answer.status_code != 201
            assert not site.seen
            site.node.lead()
            assert (await site.client.post("/", content=b"x")).status_code == 201

    async def check_port_in_use(self) -> None:
        """A port that is taken is an error that says so."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            node, service = self._make(taken.getsockname()[1], _free_port())
            refused = None
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(service.run, node)
                    nursery.cancel_scope.cancel()
            except* LitefsError as group:
                refused = inner(group)
            assert refused is not None, "the proxy runs on a port that is taken"

    async def check_ends(self) -> None:
        """Cancelled, it is gone, and so is its port; a second one can take its place."""
        port = _free_port()
        for _ in range(2):
            async with self._site(port=port) as site:
                assert (await site.client.get("/")).content == b"hello"

    async def check_requests_under_way_end(self) -> None:
        """A proxy that wants to be asked before it is cancelled lets a request under way end."""
        async with self._site() as site, trio.open_nursery() as nursery:
            leave = getattr(site.service, "leave", None)
            if leave is None:
                return
            answers: list[bytes] = []

            async def ask() -> None:
                answers.append((await site.client.get("/held")).content)

            nursery.start_soon(ask)
            await _until(lambda: bool(site.seen))
            nursery.start_soon(leave, site.ended)
            await _until(lambda: not _listens(site.client.base_url.port or 0))
            site.held.set()
            await site.ended.wait()
            await _until(lambda: answers == [b"hello"])

    # ------------------------------------------------------------------------------------------------------ running

    def _make(self, port: int, target: int) -> tuple[FakeNode, Service]:
        section = {"addr": f"127.0.0.1:{port}", "target": f"127.0.0.1:{target}", "db": "db", "type": self.type}
        quick = {"primary-redirect-timeout": "100ms"}
        config = whole_config(self.plugin, {"proxy": {**section, **quick, **self.settings}})
        plugins = Plugins([BUILTIN, Plugin("plugin under test", self.plugin)])
        return FakeNode(config), plugins.proxies[self.type].factory(config.proxy, node_info())

    @asynccontextmanager
    async def _site(self, *, port: int = 0, application: bool = True) -> AsyncIterator[Site]:
        import httpx

        port = port or _free_port()
        node, service = self._make(port, target := _free_port())
        site = Site(node, service, target)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            try:
                await service.run(node, task_status=task_status)
            finally:
                site.ended.set()

        async with trio.open_nursery() as nursery:
            if application:
                await site.application(nursery)
            await nursery.start(run)
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=self.limit, trust_env=False
            ) as client:
                site.client = client
                yield site
            nursery.cancel_scope.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    """Look again and again; the check's limit ends it."""
    while not condition():
        await trio.sleep(0.005)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    """A port below those that Linux gives to outgoing connections: none of them takes it before it is used."""
    while True:
        port = random.SystemRandom().randrange(10_240, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
