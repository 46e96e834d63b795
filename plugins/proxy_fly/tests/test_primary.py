"""Requests that go on to the primary's proxy, or are sent there."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from litefs_proxy_fly.heads import parse_request

from tests.support.neighbour import Primary
from tests.support.proxy import FakeDatabase, Reader, echo, proxied, rest

POST = b"POST /p?q HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"


def test_a_write_goes_to_the_primary_and_its_answer_comes_back() -> None:
    async def main() -> None:
        async with proxied(echo, redirect="forward") as site:
            two = await Primary(site, "two").start()
            two.lead()
            for _ in range(2):
                assert (await site.ask(POST)).endswith(b"\r\n\r\ndone")
            assert len(two.heads) == 2
            for head in two.heads:
                assert head.startswith(b"POST /p?q HTTP/1.1\r\nHost: app\r\n")
                assert b"\r\nLitefs-Proxy-Hops: 0000000000000001\r\n" in head
                assert head.endswith(b"ab")
            assert site.connections == 0

    trio.run(main)


def test_the_primary_is_redirected_to() -> None:
    async def main() -> None:
        async with proxied(echo, redirect="307") as site:
            two = await Primary(site, "two").start()
            two.lead()
            said = await site.ask(POST)
            assert said.startswith(b"HTTP/1.1 307 Temporary Redirect\r\n")
            assert b"\r\nLocation: http://127.0.0.1:%d/p?q\r\n" % two.proxy in said

    trio.run(main)


def test_what_was_sent_here_as_to_the_primary_is_a_write_and_its_hops_end_here() -> None:
    async def main() -> None:
        async with proxied(echo, redirect="forward") as site:
            site.store.databases["db"] = FakeDatabase(7)
            get = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nlitefs-proxy-hops: 02\r\n\r\n"
            said = await site.ask(get)
            assert b"Set-Cookie: __txid=0000000000000007" in said
            assert b"hops" not in said

    trio.run(main)


def test_no_circles() -> None:
    """Each of two nodes believes that the other one is primary."""

    async def main() -> None:
        async with proxied(echo, redirect="forward", primary_redirect_timeout="300ms") as site:
            two = Primary(site, "two")
            two.proxy = site.port
            two.status = {"proxyURL": f"http://127.0.0.1:{site.port}"}
            await two._listen(two.api, two._say_status)
            two.lead()
            assert (await site.ask(POST)).startswith(b"HTTP/1.1 503 ")
            for hops in (b"0000000000000001", b"02, 03, 04"):
                post = POST.replace(b"Host: app", b"Host: app\r\nLitefs-Proxy-Hops: " + hops)
                assert (await site.ask(post)).startswith(b"HTTP/1.1 503 ")
            assert site.connections == 0

    trio.run(main)


def test_a_primary_that_is_gone_is_waited_for() -> None:
    async def main() -> None:
        async with proxied(echo, redirect="forward") as site, await site.connect() as client:
            Primary(site, "two").lead()  # which nobody has started
            three = await Primary(site, "three").start()
            await client.send_all(POST)
            await trio.sleep(0.3)
            three.lead()
            assert (await rest(client)).endswith(b"done")
            assert three.heads[0].endswith(b"ab")

    trio.run(main)


def test_this_node_may_become_primary_meanwhile() -> None:
    async def main() -> None:
        async with proxied(echo, redirect="forward") as site, await site.connect() as client:
            Primary(site, "two").lead()
            await client.send_all(POST)
            await trio.sleep(0.3)
            site.store.writable = True
            site.role.lead()
            said = await rest(client)
            assert b"POST /p?q" in said
            assert b"Litefs-Proxy-Hops" not in said

    trio.run(main)


def test_no_primary_that_can_be_reached() -> None:
    async def main() -> None:
        async with proxied(echo, redirect="forward", primary_redirect_timeout="300ms") as site:
            Primary(site, "two").lead()
            assert (await site.ask(POST)).endswith(b"\r\n\r\nProxy error: no primary available\n")

    trio.run(main)


def test_what_may_have_been_heard_is_not_sent_again() -> None:
    heard = 0

    async def deaf(stream: trio.SocketStream) -> None:
        nonlocal heard
        await Reader(stream).until(b"ab")
        heard += 1

    async def main() -> None:
        async with proxied(echo, redirect="forward") as site:
            two = await Primary(site, "two").start(deaf)
            two.lead()
            assert (await site.ask(POST)).startswith(b"HTTP/1.1 502 ")
            assert heard == 1

    trio.run(main)


def test_a_primary_of_litefs_is_believed_to_use_the_same_port() -> None:
    async def main() -> None:
        async with proxied(echo, redirect="307") as site:
            two = await Primary(site, "two").start()
            two.status = None
            two.lead()
            assert b"Location: http://127.0.0.1:%d/p?q\r\n" % site.port in await site.ask(POST)

    trio.run(main)


@pytest.mark.parametrize("status", [{}, {"proxyURL": "ftp://x"}, {"proxyURL": 5}, {"proxyURL": "http://x:y"}])
def test_a_primary_that_does_not_say_where(status: dict[str, Any]) -> None:
    async def main() -> None:
        async with proxied(echo, redirect="forward", primary_redirect_timeout="100ms") as site:
            two = await Primary(site, "two").start()
            two.status = status
            two.lead()
            assert (await site.ask(POST)).startswith(b"HTTP/1.1 503 ")

    trio.run(main)


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (b"GET /w HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b""),
        (b"GET /w HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", b"ab"),
    ],
)
def test_an_application_may_ask_for_the_primary_itself(request_: bytes, body: bytes) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await Reader(stream).until(b"\r\n\r\n" + body)
        said = b"HTTP/1.1 409 Conflict\r\nFly-Replay: instance=two\r\nContent-Length: 0\r\n\r\n"
        await stream.send_all(said)
        await rest(stream)

    async def main() -> None:
        async with proxied(handler, redirect="forward") as site:
            two = await Primary(site, "two").start()
            two.lead()
            assert (await site.ask(request_)).endswith(b"done")
            assert two.heads[0].startswith(b"GET /w HTTP/1.1\r\n")
            assert two.heads[0].endswith(b"\r\n\r\n" + body)
        async with proxied(handler) as site:  # otherwise it is for Fly
            site.follow("two")
            assert b"Fly-Replay: instance=two\r\n" in await site.ask(request_)

    trio.run(main)


def test_websockets_may_be_for_the_primary() -> None:
    start = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    async def handler(stream: trio.SocketStream) -> None:
        reader = Reader(stream)
        head = await reader.until(b"\r\n\r\n")
        assert parse_request(head).upgrade == b"websocket"
        await stream.send_all(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := await stream.receive_some(1000):
            await stream.send_all(data)

    async def main() -> None:
        async with proxied(echo, redirect="forward", websockets="primary") as site, await site.connect() as client:
            two = await Primary(site, "two").start(handler)
            two.lead()
            await client.send_all(start)
            reader = Reader(client)
            await reader.until(b"\r\n\r\n")
            await client.send_all(b"ping")
            await reader.until(b"ping")
            assert site.connections == 0

    trio.run(main)
