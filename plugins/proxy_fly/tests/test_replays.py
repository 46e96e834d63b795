"""Requests that another node gets after the application here has had them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

from litefs.leases import PrimaryInfo
from tests.support.neighbour import Primary
from tests.support.proxy import FakeDatabase, Handler, Reader, Site, echo, proxied, rest

GET = b"GET /w HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAILED = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"


def says(response: bytes, before: Callable[[], None] = lambda: None) -> Handler:
    """An application that always says the same."""

    async def handler(stream: trio.SocketStream) -> None:
        while await stream.receive_some(1 << 16):  # no test sends heads in pieces
            before()
            await stream.send_all(response)

    return handler


def asks_for(instance: str, before: Callable[[], None] = lambda: None) -> Handler:
    """An application that wants another node to have its requests."""
    value = f"app=x; instance={instance};state=7=8"
    return says(f"HTTP/1.1 409 Conflict\r\nFly-Replay: {value}\r\nContent-Length: 0\r\n\r\n".encode(), before)


def others(site: Site, *nodes: Primary) -> None:
    found = [PrimaryInfo(node.name, f"http://127.0.0.1:{node.api}") for node in nodes]
    site.role.others = lambda: found


def hops(node: Primary) -> list[bytes]:
    return [match[1] for head in node.heads if (match := re.search(rb"Litefs-Proxy-Hops: (.*?)\r\n", head))]


# ---- Fly-Replay, off Fly


@pytest.mark.parametrize("role", ["primary", "replica"])
def test_any_other_node_may_be_asked_for(role: str) -> None:
    async def main() -> None:
        async with proxied(asks_for("three"), redirect="forward") as site:
            two, three = await Primary(site, "two").start(), await Primary(site, "three").start()
            others(site, two, three)
            if role == "replica":
                two.lead()
            spoofed = GET.replace(b"Host: x\r\n", b"Host: x\r\nfly-replay-src: instance=evil\r\n")
            assert (await site.ask(spoofed)).endswith(b"done")
            assert not two.heads
            (head,) = three.heads
            assert hops(three) == [b"0000000000000001;replay"]
            (source,) = re.findall(rb"(?i)fly-replay-src: (.*?)\r\n", head)
            assert re.fullmatch(rb"instance=one;t=[0-9]{16};state=7=8", source)

    trio.run(main)


def test_with_a_static_lease_a_replica_has_the_name_of_its_primary() -> None:
    async def main() -> None:
        async with proxied(asks_for("one"), redirect="forward") as site:
            one = await Primary(site, "one").start()
            one.lead()
            assert (await site.ask(GET)).endswith(b"done")
            assert hops(one) == [b"0000000000000001"]

    trio.run(main)


def test_there_it_is_treated_as_if_a_client_had_sent_it() -> None:
    """A read is served, with a cookie so that the client stays with what it has seen; a write goes to the primary."""
    replayed = b"Host: x\r\nLitefs-Proxy-Hops: 02;replay\r\n"

    async def main() -> None:
        async with proxied(echo, redirect="forward") as site:
            site.store.databases["db"] = FakeDatabase(7)
            two = await Primary(site, "two").start()
            two.lead()
            said = await site.ask(GET.replace(b"Host: x\r\n", replayed))
            assert b"Set-Cookie: __txid=0000000000000007" in said
            assert site.connections == 1
            assert b"Set-Cookie" not in await site.ask(GET)
            waits = replayed + b"Cookie: __txid=0000000000000008\r\n"
            async with await site.connect() as client:
                await client.send_all(GET.replace(b"Host: x\r\n", waits))
                with trio.move_on_after(0.05) as quiet:
                    await client.receive_some()
                assert quiet.cancelled_caught
                site.store.databases["db"].move(8)
                assert b"__txid=0000000000000008" in await rest(client)
            post = GET.replace(b"GET", b"POST").replace(b"Host: x\r\n", replayed)
            assert (await site.ask(post)).endswith(b"done")
            assert hops(two) == [b"02;replay, 0000000000000001"]

    trio.run(main)


@pytest.mark.parametrize(
    ("instance", "header"),
    [
        ("one", b""),  # this node
        ("four", b""),  # nobody
        ("three", b"Litefs-Proxy-Hops: 02;replay, 03;replay, 04;replay\r\n"),  # it goes round and round
    ],
)
def test_what_cannot_be_obeyed_is_the_clients_answer(instance: str, header: bytes) -> None:
    async def main() -> None:
        async with proxied(asks_for(instance), redirect="forward") as site:
            three = await Primary(site, "three").start()
            others(site, three)
            said = await site.ask(GET.replace(b"Host: x\r\n", b"Host: x\r\n" + header))
            assert said.startswith(b"HTTP/1.1 409 ")
            assert b"Fly-Replay: app=x; instance=" in said
            assert not three.heads

    trio.run(main)


def test_a_node_that_is_gone() -> None:
    async def main() -> None:
        async with proxied(asks_for("three"), redirect="forward") as site:
            others(site, Primary(site, "three"))
            assert (await site.ask(GET)).startswith(b"HTTP/1.1 502 ")
            assert site.connections == 1

    trio.run(main)


@pytest.mark.parametrize("known", [False, True])
def test_the_next_primary_is_meant(known: bool) -> None:
    """The application has read the name of one that is gone by the time it answers."""

    async def main() -> None:
        async with proxied(redirect="forward") as site, await site.connect() as client:
            three = await Primary(site, "three").start()
            change = three.lead if known else lambda: site.role.follow(None)
            await site.application(asks_for("two", change))
            Primary(site, "two").lead()  # which nobody has started
            await client.send_all(GET)
            with trio.fail_after(5):
                while not site.connections:
                    await trio.sleep(0.01)
            three.lead()
            assert (await rest(client)).endswith(b"done")
            assert site.connections == 1

    trio.run(main)


def test_no_primary_after_all_and_the_application_is_not_asked_again() -> None:
    async def main() -> None:
        async with proxied(asks_for("two"), redirect="forward", primary_redirect_timeout="300ms") as site:
            Primary(site, "two").lead()  # which nobody has started
            assert (await site.ask(GET)).endswith(b"\r\n\r\nProxy error: no primary available\n")
            assert site.connections == 1

    trio.run(main)


def test_a_body_is_sent_again_up_to_a_limit() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        reader = Reader(stream)
        head = await reader.until(b"\r\n\r\n")
        await reader.exactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))
        await stream.send_all(b"HTTP/1.1 409 C\r\nFly-Replay: instance=three\r\nContent-Length: 0\r\n\r\n")
        await rest(stream)

    got: list[int] = []

    async def take(stream: trio.SocketStream) -> None:
        reader = Reader(stream)
        head = await reader.until(b"\r\n\r\n")
        got.append(len(await reader.exactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))))
        await stream.send_all(OK)

    async def main() -> None:
        async with proxied(handler, redirect="forward") as site:
            three = await Primary(site, "three").start(take)
            others(site, three)
            for size, status in ((1 << 20, b"200"), ((1 << 20) + 1, b"409")):
                post = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
                assert (await site.ask(post + bytes(size))).startswith(b"HTTP/1.1 " + status)
            assert got == [1 << 20]

    trio.run(main)


# ---- writes in reads


def tries_to_write(site: Site, response: bytes = FAILED) -> Handler:
    def refuse() -> None:
        site.store.refused += 1

    return says(response, refuse)


@pytest.mark.parametrize("redirect", ["forward", "307", "fly-replay"])
def test_the_primary_gets_a_read_that_tried_to_write(redirect: str) -> None:
    async def main() -> None:
        async with proxied(redirect=redirect, write_on_get="replay") as site:
            await site.application(tries_to_write(site))
            two = await Primary(site, "two").start()
            two.lead()
            said = await site.ask(GET)
            if redirect == "forward":
                assert said.endswith(b"done")
                assert hops(two) == [b"0000000000000001"]
            elif redirect == "307":
                assert b"\r\nLocation: http://127.0.0.1:%d/w\r\n" % two.proxy in said
            else:
                assert b"Fly-Replay: instance=two\r\n" in said
            assert site.connections == 1

    trio.run(main)


@pytest.mark.parametrize(
    ("config", "refuses", "status", "request_"),
    [
        ({}, True, 500, GET),
        ({"write_on_get": "replay"}, False, 500, GET),
        ({"write_on_get": "replay"}, True, 404, GET),
        ({"write_on_get": "replay", "passthrough": ["/w"]}, True, 500, GET),
    ],
)
def test_other_answers_stay(config: dict[str, Any], refuses: bool, status: int, request_: bytes) -> None:
    response = FAILED.replace(b"500", b"%d" % status)

    async def main() -> None:
        async with proxied(redirect="forward", **config) as site:
            await site.application(tries_to_write(site, response) if refuses else says(response))
            two = await Primary(site, "two").start()
            two.lead()
            assert (await site.ask(request_)).startswith(b"HTTP/1.1 %d " % status)
            assert not two.heads

    trio.run(main)


def test_a_node_that_has_become_primary_meanwhile_does_it_itself() -> None:
    sites: list[Site] = []

    async def handler(stream: trio.SocketStream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        if sites[0].connections > 1:
            await stream.send_all(OK)
            return
        sites[0].store.refused += 1
        sites[0].store.writable = True
        sites[0].role.lead()
        await stream.send_all(FAILED)

    async def main() -> None:
        async with proxied(handler, redirect="forward", write_on_get="replay") as site:
            sites.append(site)
            site.store.databases["db"] = FakeDatabase(7)
            site.follow("two")
            said = await site.ask(GET)
            assert said.endswith(b"ok")
            assert b"Set-Cookie: __txid=" in said

    trio.run(main)


def test_a_read_that_wrote_on_the_primary_gets_the_cookie() -> None:
    sites: list[Site] = []

    async def handler(stream: trio.SocketStream) -> None:
        head = await Reader(stream).until(b"\r\n\r\n")
        if b"/w" in head:
            sites[-1].store.databases["db"].move(8)
        await stream.send_all(OK)

    async def main() -> None:
        for config, given in ({"write_on_get": "replay"}, True), ({}, False):
            async with proxied(handler, **config) as site:
                sites.append(site)
                site.store.databases["db"] = FakeDatabase(7)
                assert (b"Set-Cookie: __txid=0000000000000008" in await site.ask(GET)) is given
                assert b"Set-Cookie" not in await site.ask(GET.replace(b"/w", b"/r"))

    trio.run(main)
