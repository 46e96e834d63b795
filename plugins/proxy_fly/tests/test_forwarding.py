"""Requests and responses between real sockets: framing, streaming, time limits, ends."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
import trio
import trio.testing
from litefs_proxy_fly import upstream

from tests.support.proxy import GET, GET_CLOSE, Reader, Site, echo, proxied, rest

CLOSED = b"Connection: close\r\n"


async def answer(stream: trio.SocketStream, data: bytes) -> Reader:
    """Read one request without a body, then say this."""
    reader = Reader(stream)
    await reader.until(b"\r\n\r\n")
    await stream.send_all(data)
    return reader


def test_one_after_another_on_one_connection() -> None:
    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            reader = Reader(client)
            for n in range(3):
                await client.send_all(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n)
                await reader.until(b"\r\n\r\n")
                assert await reader.until(b"Host: x\r\n\r\n") == b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n
            assert site.connections == 1

    trio.run(main)


def test_pipelined_requests_with_bodies() -> None:
    async def main() -> None:
        async with proxied(echo) as site:
            post = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
            chunked = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            chunked += b"2;x\r\nab\r\n1\r\nc\r\n0\r\nT: 1\r\n\r\n"
            said = await site.ask(post + chunked + b"\r\n" + GET_CLOSE)
            assert [line.split()[1] for line in said.split(b"\r\n") if b" /" in line] == [b"/p", b"/c", b"/"]
            assert b"3\r\nabc\r\n0\r\nT: 1\r\n\r\n" in said  # what the application got
            assert site.connections == 1

    trio.run(main)


def test_body_in_small_pieces() -> None:
    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            reader = Reader(client)
            for byte in b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + GET:
                await client.send_all(bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()
            await reader.until(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    trio.run(main)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
        (
            b"HTTP/1.0 200 Fine\r\nA: b\r\n\r\nab",
            b"HTTP/1.1 200 Fine\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nT: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
    ],
)
def test_responses(said: bytes, heard: bytes) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await answer(stream, said)
        if b"HTTP/1.0" not in said:
            await rest(stream)

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            await client.send_all(GET)
            assert await Reader(client).exactly(len(heard)) == heard

    trio.run(main)


def test_an_http10_client_gets_no_chunks_and_no_interim_responses() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        reader = await answer(
            stream, b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await stream.send_all(b"3\r\nabc\r\n0\r\nT: 1\r\n\r\n")
        await rest(reader.stream)

    async def main() -> None:
        async with proxied(handler) as site:
            said = await site.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert said == b"HTTP/1.1 200 OK\r\n" + CLOSED + b"\r\nabc"

    trio.run(main)


def test_an_http10_client_may_keep_the_connection() -> None:
    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            reader = Reader(client)
            for _ in range(2):
                await client.send_all(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
                assert b"Connection: keep-alive" in await reader.until(b"\r\n\r\n")
                await reader.until(b"Host: h\r\n\r\n")

    trio.run(main)


def test_head_has_no_body() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        while True:
            await answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            for _ in range(2):
                await client.send_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await Reader(client).until(b"\r\n\r\n")).endswith(b"Content-Length: 5\r\n\r\n")
            assert site.connections == 1

    trio.run(main)


# ---- what must not get through


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\n", b"400"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 70_000, b"431"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
    ],
)
def test_refused_at_once_and_the_connection_closed(data: bytes, status: bytes) -> None:
    async def main() -> None:
        async with proxied(echo) as site:
            said = await site.ask(data)
            assert said.startswith(b"HTTP/1.1 " + status + b" ")
            assert CLOSED in said
            assert said.count(b"HTTP/1.1") == 1
            assert b"200 OK" in await site.ask(GET_CLOSE)

    trio.run(main)


def test_a_bad_chunk_in_the_middle_reaches_nobody() -> None:
    got = []

    async def handler(stream: trio.SocketStream) -> None:
        got.append(await rest(stream))

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            await client.send_all(b"1\r\nbGET /smuggled HTTP/1.1\r\n\r\n")
            assert (await rest(client)).startswith(b"HTTP/1.1 400 ")
            while not got:
                await trio.sleep(0.01)
        assert b"smuggled" not in got[0]
        assert got[0].endswith(b"\r\n\r\n1\r\na\r\n")

    trio.run(main)


# ---- the application in trouble


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nConte", b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000]
)
def test_no_proper_response(said: bytes) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await answer(stream, said)

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            reader = Reader(client)
            for _ in range(2):  # the client's connection goes on
                await client.send_all(GET)
                head = await reader.until(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n")
                assert (await reader.until(b"\n")).startswith(b"Proxy error: ")

    trio.run(main)


@pytest.mark.parametrize("framing", [b"Content-Length: 11", b"Transfer-Encoding: chunked"])
def test_a_response_that_breaks_off_is_not_made_to_look_whole(framing: bytes) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await answer(stream, b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nabcde\r\n")

    async def main() -> None:
        async with proxied(handler) as site:
            said = await site.ask(GET)
            assert b"abcde" in said
            assert b"0\r\n\r\n" not in said

    trio.run(main)


def test_a_stale_connection_is_not_the_clients_problem() -> None:
    sites: list[Site] = []

    async def handler(stream: trio.SocketStream) -> None:
        reader = await answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if sites[-1].connections == 1:
            return  # closed although it was to be kept
        await reader.until(b"\r\n\r\n")

    async def main() -> None:
        for method in (b"GET", b"POST"):
            async with proxied(handler) as site, await site.connect() as client:
                sites.append(site)
                for _ in range(2):
                    await client.send_all(method + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert (await Reader(client).until(b"ok")).startswith(b"HTTP/1.1 200")
                    await trio.testing.wait_all_tasks_blocked(0.05)
                assert site.connections == 2

    trio.run(main)


def test_a_write_takes_no_connection_that_has_been_idle_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application may be closing it at this very moment."""
    monkeypatch.setattr(upstream, "FRESH", 0.0)

    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            reader = Reader(client)
            for method, connections in [(b"POST", 1), (b"POST", 2), (b"GET", 2), (b"POST", 3)]:
                await client.send_all(method + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.until(b"\r\n\r\n")
                await reader.until(b"Host: x\r\n\r\n")
                assert site.connections == connections

    trio.run(main)


def test_a_write_is_never_sent_twice() -> None:
    seen = []

    async def handler(stream: trio.SocketStream) -> None:
        await answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        seen.append(await Reader(stream).until(b"\r\n\r\n"))  # and close without an answer

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            reader = Reader(client)
            await client.send_all(GET)
            await reader.until(b"ok")
            await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
            assert len(seen) == 1
            assert site.connections == 1

    trio.run(main)


def test_an_application_that_starts_late() -> None:
    async def main() -> None:
        async with proxied() as site, await site.connect() as client:
            await client.send_all(GET)
            await trio.sleep(0.3)
            await site.application(echo)
            assert (await Reader(client).until(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"

    trio.run(main)


# ---- both ways at once


def test_100_continue_comes_from_the_application() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        reader = await answer(stream, b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.exactly(5)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)
        await rest(stream)

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            reader = Reader(client)
            assert await reader.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send_all(b"hello")
            assert (await reader.until(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")

    trio.run(main)


def test_100_continue_for_an_application_that_does_not_know_it() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        reader = await answer(stream, b"")
        await reader.exactly(5)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await rest(stream)

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            reader = Reader(client)
            assert await reader.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send_all(b"hello")
            assert (await reader.until(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"

    trio.run(main)


def test_an_expectation_that_is_not_met_ends_the_connection() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await answer(stream, b"HTTP/1.1 413 Too Big\r\nContent-Length: 0\r\n\r\n")
        await rest(stream)

    async def main() -> None:
        async with proxied(handler) as site:
            post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            assert await site.ask(post) == b"HTTP/1.1 413 Too Big\r\nContent-Length: 0\r\n" + CLOSED + b"\r\n"

    trio.run(main)


def test_an_early_response_arrives_though_the_body_is_not_read() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await answer(stream, b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nno!")

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            heard = b""

            async def read() -> None:
                nonlocal heard
                heard = await rest(client)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
                try:
                    for _ in range(100):
                        await client.send_all(b"x" * 100_000)
                except trio.BrokenResourceError:
                    pass
            assert heard.startswith(b"HTTP/1.1 413 Too Big\r\n")
            assert b"no!" in heard

    trio.run(main)


def test_a_response_may_come_while_the_request_goes_on() -> None:
    """The application echoes what it gets at once."""

    async def handler(stream: trio.SocketStream) -> None:
        reader = await answer(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await stream.send_all(reader.data)
        while data := await stream.receive_some(1000):
            await stream.send_all(data)

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            reader = Reader(client)
            await reader.until(b"\r\n\r\n")
            for n in range(5):
                piece = b"5\r\n%05d\r\n" % n
                await client.send_all(piece)
                assert await reader.until(piece) == piece
            await client.send_all(b"0\r\n\r\n")
            await reader.until(b"0\r\n\r\n")

    trio.run(main)


def test_a_client_that_reads_slowly_holds_the_application_back() -> None:
    sent = 0

    async def handler(stream: trio.SocketStream) -> None:
        nonlocal sent
        await answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 100_000)
            sent += 100_000

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            await client.send_all(GET)
            before = -1
            while sent != before:  # until all buffers are full
                before = sent
                await trio.sleep(0.3)
                assert sent < 50_000_000

    trio.run(main)


def test_an_application_that_reads_slowly_holds_the_client_back() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            sent = 0
            with trio.move_on_after(0.5):
                while sent < 50_000_000:
                    await client.send_all(b"x" * 100_000)
                    sent += 100_000
            assert sent < 50_000_000

    trio.run(main)


def test_half_closed_clients_get_their_answer() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        reader = Reader(stream)
        await reader.until(b"\r\n\r\n")
        await trio.sleep(0.2)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await rest(stream)

    async def main() -> None:
        async with proxied(handler, read_header_timeout="300ms", idle_timeout="300ms") as site:
            assert (await site.ask(GET, half_close=True)).endswith(b"ok")

    trio.run(main)


def test_a_client_that_is_gone_sets_the_application_free() -> None:
    ended = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        await answer(stream, b"")
        await rest(stream)  # as long as the proxy holds on
        ended.set()

    async def main() -> None:
        async with proxied(handler) as site:
            client = await site.connect()
            await client.send_all(GET)
            await trio.testing.wait_all_tasks_blocked(0.05)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
            await client.aclose()
            with trio.fail_after(5):
                await ended.wait()

    trio.run(main)


def test_a_client_that_leaves_in_the_middle_of_its_body() -> None:
    got = []

    async def handler(stream: trio.SocketStream) -> None:
        got.append(await rest(stream))

    async def main() -> None:
        async with proxied(handler) as site:
            async with await site.connect() as client:
                await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
            with trio.fail_after(5):
                while not got:
                    await trio.sleep(0.01)
            assert got[0].endswith(b"\r\n\r\nabc")

    trio.run(main)


# ---- changes of protocol


def test_a_websocket_is_passed_through() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        reader = Reader(stream)
        head = await reader.until(b"\r\n\r\n")
        assert b"Connection: Upgrade\r\n" in head
        assert b"Upgrade: websocket\r\n" in head
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi"
        )
        await stream.send_all(reader.data)
        while data := await stream.receive_some(1000):
            await stream.send_all(data)
        await stream.send_all(b"bye")

    async def main() -> None:
        async with proxied(handler, idle_timeout="100ms", read_timeout="200ms") as site, await site.connect() as client:
            start = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            await client.send_all(start + b"early")
            reader = Reader(client)
            assert b"Connection: Upgrade\r\n" in await reader.until(b"\r\n\r\n")
            await reader.until(b"hiearly")
            for _ in range(3):
                await trio.sleep(0.1)
                await client.send_all(b"ping")
                await reader.until(b"ping")
            await client.send_eof()
            assert await rest(client) == b"bye"

    trio.run(main)


def test_a_change_of_protocol_that_nobody_asked_for() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await answer(stream, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")

    async def main() -> None:
        async with proxied(handler) as site:
            assert (await site.ask(GET_CLOSE)).startswith(b"HTTP/1.1 502 ")

    trio.run(main)


def test_an_application_on_a_unix_socket_that_comes_late(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"

    async def main() -> None:
        async with proxied(target=f"unix:{path}") as site, await site.connect() as client:
            await client.send_all(b"GET / HTTP/1.0\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            await site.application(echo, path)
            assert b"Host: localhost\r\n" in await Reader(client).until(b"HTTP/1.1\r\nHost: localhost\r\n")

    trio.run(main)


def test_a_unix_socket_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    path.touch()
    path.chmod(0)

    async def main() -> None:
        async with proxied(target=f"unix:{path / 'app'}") as site:
            assert f"cannot connect to unix:{path}".encode() in await site.ask(GET_CLOSE)

    trio.run(main)
