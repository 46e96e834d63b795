"""What is decided about requests, beside what the black-box suite looks at."""

from __future__ import annotations

import time

import litefs_proxy_fly as plugin
import pytest
import trio
import trio.testing
from litefs_proxy_fly import cookies
from litefs_proxy_fly.globs import Globs, path_of
from litefs_proxy_fly.heads import BadRequest
from litefs_proxy_fly.target import parse_target

from litefs.errors import ConfigError
from litefs.plugins import load
from litefs.testing import node_info, proxy_config
from tests.support.proxy import FakeDatabase, Reader, Site, echo, proxied, rest

POST = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"


@pytest.mark.parametrize(
    ("lines", "txid"),
    [
        ([], 0),
        ([b"__txid=00000000000000ff"], 255),
        ([b'a=b;__txid="00000000000000FF" ;c'], 255),
        ([b"a=b", b"__txid=0000000000000001"], 1),
        ([b"__txid=x; __txid=0000000000000001"], 0),
        ([b"x__txid=0000000000000001"], 0),
        ([b"__txid=+000000000000001"], 0),
        ([b"__txid=0_0000000000000f"], 0),
    ],
)
def test_position_in_cookies(lines: list[bytes], txid: int) -> None:
    assert cookies.position(lines) == txid


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/a/*", b"/a/b/c", True),
        ("/a/*", b"/b/a/", False),
        ("*.png", b"/x.png", True),
        ("*.png", b"/x.png/", False),
        ("/é", "/é".encode(), True),
        ("/[a]+", b"/[a]+", True),
        ("/a", b"/a\n", False),
    ],
)
def test_globs(pattern: str, path: bytes, matches: bool) -> None:
    assert Globs(["/never", pattern]).match(path) is matches
    assert not Globs([]).match(path)


def test_paths() -> None:
    assert path_of(b"/a%20b%2Fc?d=%zz") == b"/a b/c"
    with pytest.raises(BadRequest):
        path_of(b"/a%2")


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("localhost:8080", ("localhost", 8080)),
        ("[::1]:80", ("::1", 80)),
        (":81", ("localhost", 81)),
        ("app", ("app", 80)),
        ("[::1]", ("::1", 80)),
        ("unix:/run/a.sock", ("/run/a.sock",)),
    ],
)
def test_targets(target: str, found: tuple[str | int, ...]) -> None:
    assert parse_target(target) == found


@pytest.mark.parametrize(
    "target", ["http://localhost:8080", "localhost:8080/", "::1:80", "a:b", "localhost:0", "a:99999"]
)
def test_bad_targets(target: str) -> None:
    with pytest.raises(ConfigError, match=r"proxy\.target: .* write HOST:PORT"):
        plugin.make(proxy_config(plugin, {"target": target, "addr": ":1", "db": "db"}), node_info())


@pytest.mark.parametrize("target", ["unix:app.sock", "unix:", f"unix:/{'x' * 107}"])
def test_bad_sockets(target: str) -> None:
    with pytest.raises(ConfigError, match=r"proxy\.target: "):
        plugin.make(proxy_config(plugin, {"target": target, "addr": ":1", "db": "db"}), node_info())


def test_bad_database() -> None:
    with pytest.raises(ConfigError, match=r"proxy\.db: invalid database name"):
        plugin.make(proxy_config(plugin, {"target": ":1", "addr": ":1", "db": "a/b"}), node_info())


def test_it_is_an_ordinary_plugin_and_the_default() -> None:
    (found,) = [found for found in load() if found.name == "proxy_fly"]
    assert found.distribution == "litefs-proxy-fly"
    assert proxy_config(plugin, {"target": ":1", "addr": ":1", "db": "db"}).type == "fly"


# ---- on a running proxy


def test_the_cookie_has_the_position_of_when_the_answer_came() -> None:
    sites: list[Site] = []

    async def handler(stream: trio.SocketStream) -> None:
        await Reader(stream).until(b"ab")
        sites[-1].store.databases["db"].move(300)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await rest(stream)

    async def main() -> None:
        async with proxied(handler) as site:
            sites.append(site)
            site.store.databases["db"] = FakeDatabase(7)
            said = await site.ask(POST)
            assert b"OK\r\nSet-Cookie: __txid=000000000000012c; Path=/; Expires=" in said

    trio.run(main)


@pytest.mark.alone
def test_a_read_wakes_up_when_the_position_is_there() -> None:
    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            db = site.store.databases["db"] = FakeDatabase(7)
            await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: __txid=0000000000000009\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert site.connections == 0
            db.move(8)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert site.connections == 0
            moved = time.perf_counter()
            db.move(9)
            await Reader(client).until(b"200 OK")
            assert time.perf_counter() - moved < 0.5

    trio.run(main)


def test_a_write_waits_while_the_primary_hands_over() -> None:
    """Neither refused nor sent to an application that could not write."""

    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            site.store.writable = False
            await client.send_all(POST)
            await trio.sleep(0.1)
            assert site.connections == 0
            site.follow("two")
            assert b"Fly-Replay: instance=two\r\n" in await rest(client)
            assert site.connections == 0

    trio.run(main)


def test_a_hand_over_waits_for_writes_under_way() -> None:
    finish = trio.Event()

    async def handler(stream: trio.SocketStream) -> None:
        await Reader(stream).until(b"ab")
        await finish.wait()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    async def main() -> None:
        async with proxied(handler) as site, await site.connect() as client:
            await client.send_all(POST)
            await trio.testing.wait_all_tasks_blocked(0.05)
            waiting = trio.Event()

            async def give() -> None:
                waiting.set()
                async with site.role.yielding():
                    assert finish.is_set()
                    site.follow("two")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(give)
                await waiting.wait()
                late = await site.connect()
                await late.send_all(POST)
                await trio.sleep(0.1)
                assert site.connections == 1
                finish.set()
            assert (await rest(client)).endswith(b"done")
            assert b"Fly-Replay: instance=two" in await rest(late)

    trio.run(main)


def test_no_primary_within_the_time() -> None:
    async def main() -> None:
        async with proxied(echo, primary_redirect_timeout="100ms") as site:
            site.role.follow(None)
            said = await site.ask(POST)
            assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert said.endswith(b"\r\n\r\nProxy error: no primary available\n")

    trio.run(main)


def test_a_hostname_cannot_write_headers() -> None:
    async def main() -> None:
        async with proxied(echo, primary_redirect_timeout="100ms") as site:
            site.follow("two\r\nSet-Cookie: a=b")
            assert b"Set-Cookie" not in await site.ask(POST)

    trio.run(main)


def test_a_replayed_request_leaves_the_connection_usable() -> None:
    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            site.follow("two")
            reader = Reader(client)
            for _ in range(2):
                await client.send_all(POST.replace(b"Connection: close\r\n", b""))
                assert b"Fly-Replay: instance=two" in await reader.until(b"\r\n\r\n")
            await client.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in await reader.until(b"\r\n\r\n")

    trio.run(main)


def test_a_big_upload_to_a_replica_is_answered_before_it_is_read() -> None:
    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            site.follow("two")
            await client.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\nxxx")
            head = await Reader(client).until(b"\r\n\r\n")
            assert b"Fly-Replay: instance=two\r\n" in head
            assert b"Connection: close\r\n" in head

    trio.run(main)


def test_an_expectant_client_is_told_without_sending_its_body() -> None:
    async def main() -> None:
        async with proxied(echo) as site:
            site.follow("two")
            post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            assert (await site.ask(post)).startswith(b"HTTP/1.1 200 OK\r\nFly-Replay: instance=two\r\n")

    trio.run(main)


def test_health_before_the_first_heartbeat_and_behind() -> None:
    get = b"GET /litefs/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    async def main() -> None:
        async with proxied(echo, max_lag="2s") as site:
            site.follow("two")
            assert (await site.ask(get)).endswith(b"\r\n\r\nOK\n")
            site.role.heartbeat(int(time.time() * 1000) - 3000)
            said = await site.ask(get)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert said.endswith(b"\r\n\r\nReplication lag exceeded\n")
            site.role.heartbeat(int(time.time() * 1000))
            assert (await site.ask(get)).endswith(b"\r\n\r\nOK\n")
            head = await site.ask(get.replace(b"GET", b"HEAD"))  # HEAD is not special
            assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: ")  # the application's

    trio.run(main)
