"""Clients that mean no good, many at a time: the proxy serves the others, and nothing of them stays."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable

import pytest
import trio
from litefs_proxy_fly.client import Client, Limits
from litefs_proxy_fly.heads import BadRequest
from litefs_proxy_fly.outcomes import OUTCOMES

from tests.support.proxy import GET_CLOSE, Site, proxied, rest

Attack = Callable[[trio.SocketStream], Awaitable[None]]

EACH = 3  # attackers of each kind at a time
POST = b"POST /up HTTP/1.1\r\nHost: x\r\n"
PAUSE = 0.05  # seconds between the bytes of those who are slow


async def application(stream: trio.SocketStream) -> None:
    """Answers /big with more than anybody's buffers hold, reads what comes."""
    data = b""
    while piece := await stream.receive_some(1 << 16):
        data = data[-200:] + piece
        if b"GET /big" in data:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                await stream.send_all(bytes(1 << 16))
        elif data.endswith(b"\r\n\r\n") and b"GET / " in data:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def drip(start: bytes, more: bytes) -> Attack:
    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(start)
        while True:
            await stream.send_all(more)
            await trio.sleep(PAUSE)

    return attack


def spew(start: bytes, more: bytes) -> Attack:
    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(start)
        for _ in range(200):
            await stream.send_all(more)
        await rest(stream)

    return attack


def say(data: bytes) -> Attack:
    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(data)
        await rest(stream)

    return attack


def reset(data: bytes) -> Attack:
    async def attack(stream: trio.SocketStream) -> None:
        await stream.send_all(data)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return attack


async def never_reads(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    await trio.sleep_forever()


async def noise(stream: trio.SocketStream) -> None:
    await stream.send_all(random.randbytes(3000))
    await rest(stream)


ATTACKS = [
    drip(b"GET / HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"),
    drip(b"", b"G"),
    drip(POST + b"Content-Length: 1000000000\r\n\r\n", b"x"),
    drip(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    spew(b"GET / HTTP/1.1\r\nHost: x\r\n", b"X: " + b"y" * 60_000 + b"\r\n"),
    spew(b"GET /", b"x" * 60_000),
    spew(b"", b"\r\n" * 30_000),
    spew(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 60_000),
    spew(POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 60_000),
    spew(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"T: " + b"x" * 3000 + b"\r\n"),
    spew(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
    spew(b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10),  # without reading the answers
    never_reads,
    noise,
    say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
    say(POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    say(POST + b"Content-Length: 99999999999999999999\r\n\r\n"),
    say(POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
    reset(b"GET / HTTP/1.1\r\nHo"),
    reset(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"),
    reset(POST + b"Content-Length: 1000\r\n\r\nabc"),
    reset(b""),
]


async def attacker(site: Site, attack: Attack) -> None:
    """One that is at it until the proxy ends the connection."""
    try:
        async with await site.connect() as stream:
            await attack(stream)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def serves(site: Site) -> None:
    assert (await site.ask(GET_CLOSE)).endswith(b"\r\n\r\nok")


def test_hostile_clients_of_all_kinds(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.proxy.LIMIT", 60.0)

    async def main() -> None:
        # Not shorter: they are those of the others, too, on a machine that may be busy.
        limits = {"read_header_timeout": "1s", "read_timeout": "2s", "write_timeout": "3s", "idle_timeout": "1s"}
        async with proxied(application, **limits) as site:
            await serves(site)
            async with trio.open_nursery() as nursery:
                for attack in ATTACKS * EACH:
                    nursery.start_soon(attacker, site, attack)
                await trio.sleep(PAUSE)
                for _ in range(20):
                    await serves(site)
                # Those who never read know only by being told that it is over.
                while OUTCOMES.connections:
                    await trio.sleep(PAUSE)
                nursery.cancel_scope.cancel()
            await serves(site)

    trio.run(main)
    assert "unexpected error" not in caplog.text
    caplog.clear()


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\n"])
def test_as_many_connections_as_there_may_be(
    start: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Idle ones make room at once, those with half a header when its time is over."""
    monkeypatch.setattr("litefs_proxy_fly.descriptors.connections_allowed", lambda: 16)

    async def main() -> None:
        async with proxied(application, read_header_timeout="500ms" if start else "1m") as site:
            streams = [await site.connect() for _ in range(50)]
            for stream in streams:
                await stream.send_all(start)
            await serves(site)
            assert OUTCOMES.connections <= 16
            for stream in streams:
                await stream.aclose()

    trio.run(main)
    assert "16 connections are open" in caplog.text
    caplog.clear()


def test_empty_lines_cost_next_to_nothing() -> None:
    """One of them is ignored, as some clients end a body with it; a flood is not worth reading line by line."""

    async def main() -> float:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            client = Client(ours, Limits(read=0, header=0, write=0, idle=0), "")
            took: list[float] = []
            for _ in range(20):
                client.data = b"\r\n" * 8000
                begin = time.process_time()
                with trio.fail_after(5), pytest.raises(BadRequest):
                    await client.request(b"x")
                took.append(time.process_time() - begin)
            return min(took)

    assert trio.run(main) < 1e-3
