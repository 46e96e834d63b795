"""Small requests to other nodes, against the real HTTP server and against peers that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from litefs.cluster.peers import Peers
from litefs.errors import StreamError
from litefs.http.address import bind
from litefs.http.serve import serve
from tests.replication.streams import run

Seen = list[tuple[str, str, dict[str, str], bytes]]


@asynccontextmanager
async def served(seen: Seen, *, insists: bool = False, answer: bytes = b"fine") -> AsyncIterator[str]:
    """A server that notes requests; with `insists`, only over HTTP/2. Its URL."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        path = scope["path"] + "?" + scope["query_string"].decode()
        seen.append((f"{scope['method']} {scope['http_version']}", path, headers, body))
        refused = insists and scope["http_version"] != "2"
        await send({"type": "http.response.start", "status": 426 if refused else 200, "headers": [(b"x-a", b"b")]})
        await send({"type": "http.response.body", "body": b"Upgrade to HTTP/2 required\n" if refused else answer})

    listener = bind("127.0.0.1:0")
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        start = partial(serve, app, [listener], stop.wait, grace=0)
        await nursery.start(lambda task_status: start(task_status=task_status))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()


@pytest.mark.parametrize("insists", [False, True], ids=["http1", "h2c"])
def test_request(insists: bool) -> None:
    async def main() -> None:
        seen: Seen = []
        peers = Peers(0xAB, token="secret")
        async with served(seen, insists=insists) as url:
            answer = await peers.request("DELETE", url, "/halt?id=1", b"body", timeout=10, headers={"X-More": "1"})
        assert (answer.status, answer.body, answer.text, answer.headers["x-a"]) == (200, b"fine", "fine", "b")
        method, path, headers, body = seen[-1]
        assert (method, path, body) == (f"DELETE {'2' if insists else '1.1'}", "/halt?id=1", b"body")
        assert headers["litefs-id"] == "00000000000000AB"
        assert headers["authorization"] == "Bearer secret"
        assert headers["x-more"] == "1"
        assert len(seen) == (2 if insists else 1)

    run(main, real_time=True)


def test_an_answer_that_is_too_long() -> None:
    async def main() -> None:
        async with served([], answer=b"x" * 5000) as url:
            with pytest.raises(StreamError, match="more than 4999 bytes"):
                await Peers(1).request("GET", url, "/status", timeout=10, limit=4999)
            assert len((await Peers(1).request("GET", url, "/status", timeout=10, limit=5000)).body) == 5000

    run(main, real_time=True)


def test_a_peer_that_does_not_answer() -> None:
    async def main() -> None:
        with bind("127.0.0.1:0") as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(StreamError, match=r"does not answer within 0\.05 s"):
                await Peers(1).request("GET", url, "/status", timeout=0.05)
        with pytest.raises(StreamError, match="cannot connect to 127"):
            await Peers(1).request("GET", url, "/status", timeout=10)

    run(main, real_time=True)
