"""Time limits, the end of the proxy, and clients that mean no good."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.proxy import GET, GET_CLOSE, Reader, Site, echo, proxied, rest


@pytest.mark.parametrize("started", [b"", GET[:5], GET[:-2]])
def test_read_header_timeout(started: bytes) -> None:
    async def main() -> None:
        async with proxied(echo, read_header_timeout="300ms", idle_timeout="10s") as site:
            begin = trio.current_time()
            said = await site.ask(started)
            assert 0.2 < trio.current_time() - begin < 2
            assert said.startswith(b"HTTP/1.1 408 ") if started else said == b""

    trio.run(main)


def test_slowloris_leaves_the_others_alone() -> None:
    async def main() -> None:
        async with proxied(echo, read_header_timeout="1s") as site:
            slow = [await site.connect() for _ in range(100)]
            begin = trio.current_time()

            async def drip(client: trio.SocketStream) -> None:
                async with client:
                    await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n")
                    try:
                        while True:
                            await client.send_all(b"X: y\r\n")
                            await trio.sleep(0.1)
                    except trio.BrokenResourceError:
                        pass

            async with trio.open_nursery() as nursery:
                for client in slow:
                    nursery.start_soon(drip, client)
                for _ in range(10):
                    assert b"200 OK" in await site.ask(GET_CLOSE)
            assert trio.current_time() - begin < 6

    trio.run(main)


def test_idle_timeout() -> None:
    async def main() -> None:
        async with proxied(echo, idle_timeout="300ms") as site:
            begin = trio.current_time()
            assert b"200 OK" in await site.ask(GET)
            assert 0.2 < trio.current_time() - begin < 2

    trio.run(main)


def test_read_timeout() -> None:
    async def main() -> None:
        async with proxied(echo, read_timeout="300ms") as site:
            said = await site.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
            assert said.startswith(b"HTTP/1.1 408 ")
            assert said.endswith(b"Proxy error: the request took too long\n")

    trio.run(main)


def test_read_timeout_is_over_when_the_request_is_there() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await Reader(stream).until(b"abc")
        await trio.sleep(0.7)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await rest(stream)

    async def main() -> None:
        async with proxied(handler, read_timeout="300ms") as site, await site.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            assert await Reader(client).until(b"\r\n") == b"HTTP/1.1 200 OK\r\n"

    trio.run(main)


def test_write_timeout() -> None:
    sites: list[Site] = []

    async def handler(stream: trio.SocketStream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        if sites[-1].connections > 1:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await rest(stream)

    async def main() -> None:
        async with proxied(handler, write_timeout="300ms") as site:
            sites.append(site)
            assert (await site.ask(GET)).startswith(b"HTTP/1.1 504 ")
            assert (await site.ask(GET)).endswith(b"\r\n\r\nabc")  # broken off

    trio.run(main)


def test_stopping_lets_requests_end() -> None:
    go_on = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        await Reader(stream).until(b"\r\n\r\n")
        await go_on.wait()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await rest(stream)

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as busy, await site.connect() as idle:
            await busy.send_all(GET)
            await trio.testing.wait_all_tasks_blocked(0.05)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(site.stop)
                assert await rest(idle) == b""
                with pytest.raises(OSError, match="all attempts to connect"):
                    await site.connect()
                go_on.set()
                assert (await rest(busy)).endswith(b"ok")

    trio.run(main)


def test_stopping_does_not_wait_for_an_application_that_never_came() -> None:
    async def main() -> None:
        async with proxied() as site, await site.connect() as client:
            await client.send_all(GET)
            await trio.sleep(0.2)
            with trio.fail_after(3):
                await site.stop()
            assert (await rest(client)).startswith(b"HTTP/1.1 502 ")

    trio.run(main)


def test_being_cancelled_in_the_middle_of_everything() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with proxied(handler) as site:
            for start in (b"", b"GET", GET, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\na"):
                client = await site.connect()
                await client.send_all(start)
            await trio.testing.wait_all_tasks_blocked(0.05)

    trio.run(main)
