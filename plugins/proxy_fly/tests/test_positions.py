"""Cookies of several databases, and histories that are not the same."""

from __future__ import annotations

import re
from typing import Any

import litefs_proxy_fly as plugin
import pytest
import trio
from litefs_proxy_fly import rules
from litefs_proxy_fly.positions import key

from litefs.errors import ConfigError
from litefs.testing import node_info, proxy_config
from tests.support.proxy import FakeDatabase, Reader, Site, echo, proxied, rest

POST = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"
TOP = 1 << 63


def get(*pairs: tuple[str, int, int], txid: int = 0, hops: str = "") -> bytes:
    """A read by a client that has seen positions."""
    entries = [f"{key(name).decode()}-{number:016x}-{checksum:016x}" for name, number, checksum in pairs]
    lines = [f"Cookie: a=b; __txpos={'.'.join(entries)}"] if entries else []
    lines += [f"Cookie: __txid={txid:016x}"] if txid else []
    lines += [f"Litefs-Proxy-Hops: {hops}"] if hops else []
    return "\r\n".join(["GET /r HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""]).encode()


def databases(site: Site, **positions: tuple[int, int]) -> None:
    for name, pos in positions.items():
        site.store.databases[name] = FakeDatabase(*pos)


def test_the_cookie_has_all_of_them_and_litefs_still_finds_its_own() -> None:
    async def main() -> None:
        async with proxied(echo, db=["one", "two", "none"]) as site:
            databases(site, one=(7, TOP + 5), two=(300, TOP + 6))
            said = await site.ask(POST)
            assert b"Set-Cookie: __txid=0000000000000007; Path=/; Expires=" in said
            found = re.search(rb"Set-Cookie: __txpos=([^;]+); Path=/; Expires=.*; HttpOnly\r\n", said)
            assert found is not None
            one, two = (key(name) + b"-%016x-%016x" for name in ("one", "two") for _ in [0])
            assert found[1] == one % (7, TOP + 5) + b"." + two % (300, TOP + 6)
        async with proxied(echo, db="one") as site:
            databases(site, one=(7, TOP + 5))
            assert b"__txpos" not in await site.ask(POST)

    trio.run(main)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "0-0-0",
        ".".join(["00000000-0000000000000009-8000000000000000"] * 17),
        "00000000-0000000000000009-8000000000000000.",
        "00000000-0000000000000009-8000000000000000",  # of a database that is not configured any more
    ],
)
def test_what_cannot_be_understood_is_ignored(value: str) -> None:
    async def main() -> None:
        async with proxied(echo, db=["one"]) as site:
            databases(site, one=(7, TOP))
            request = f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: __txpos={value}\r\n\r\n"
            assert b"200 OK" in await site.ask(request.encode())

    trio.run(main)


def test_a_read_waits_for_each_of_them() -> None:
    async def main() -> None:
        async with proxied(echo, db=["one", "two"]) as site, await site.connect() as client:
            databases(site, one=(7, TOP + 7))
            site.follow("two")
            await client.send_all(get(("one", 8, TOP + 8), ("two", 1, TOP + 1), txid=9))
            steps = [("one", 8, TOP + 8), ("one", 9, TOP + 9), ("two", 0, 0)]
            for name, *pos in steps:
                await trio.sleep(0.05)  # nothing happens meanwhile
                assert site.connections == 0
                site.store.databases.setdefault(name, FakeDatabase(0)).move(*pos)
            await trio.sleep(0.05)
            assert site.connections == 0
            site.store.databases["two"].move(1, TOP + 1)
            await Reader(client).until(b"200 OK")

    trio.run(main)


def test_on_the_primary_another_history_is_told_once() -> None:
    async def main() -> None:
        async with proxied(echo, db=["one"]) as site:
            databases(site, one=(7, TOP + 7))
            site.store.databases["one"].move(8, TOP + 80)
            site.store.databases["one"].move(9, TOP + 90)
            assert b"200 OK" in await site.ask(get(("one", 8, TOP + 80)))
            for lost in (("one", 8, TOP + 8), ("one", 9, TOP + 9), ("one", 3, TOP + 3), ("one", 10, TOP)):
                said = await site.ask(get(lost))
                assert said.startswith(b"HTTP/1.1 504 ")
                assert said.endswith(
                    b"\r\n\r\nProxy error: what this client has seen is not in the database any more\n"
                )
                assert b"Set-Cookie: __txid=0000000000000009;" in said
                assert b"Set-Cookie: __txpos=%b-%016x-%016x;" % (key("one"), 9, TOP + 90) in said
            assert site.connections == 1

    trio.run(main)


def test_litefs_would_not_notice() -> None:
    async def main() -> None:
        async with proxied(echo, db="one") as site:
            databases(site, one=(9, TOP + 90))
            assert b"200 OK" in await site.ask(get(("one", 9, TOP + 9), txid=9))

    trio.run(main)


def test_a_replica_leaves_the_decision_to_the_primary() -> None:
    async def main() -> None:
        async with proxied(echo, db=["one"]) as site:
            databases(site, one=(9, TOP + 9))
            site.follow("two")
            for unknown in (("one", 9, TOP), ("one", 3, TOP + 3)):
                assert b"Fly-Replay: instance=two\r\n" in await site.ask(get(unknown))
            assert b"200 OK" in await site.ask(get(("one", 9, TOP + 9)))

    trio.run(main)


def test_the_primary_decides_about_what_a_replica_sends() -> None:
    async def main() -> None:
        async with proxied(echo, db=["one"]) as site:
            databases(site, one=(9, TOP + 9))
            said = await site.ask(get(("one", 9, TOP + 9), hops="02"))
            assert b"HTTP/1.1 200 OK\r\nSet-Cookie: __txid=" in said
            for lost in (("one", 9, TOP), ("one", 10, TOP)):
                assert (await site.ask(get(lost, hops="02"))).startswith(b"HTTP/1.1 504 ")

    trio.run(main)


def test_without_a_primary_a_replica_waits_for_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the one that has to be replaced."""

    async def main() -> None:
        async with proxied(echo, db=["one"]) as site, await site.connect() as client:
            databases(site, one=(9, TOP + 9))
            site.follow("two")
            site.role.follow(None)
            await client.send_all(get(("one", 9, TOP)))
            await trio.sleep(0.05)  # nothing happens meanwhile
            assert site.connections == 0
            site.store.databases["one"].trail.clear()
            site.store.databases["one"].move(9, TOP)
            await Reader(client).until(b"200 OK")
            monkeypatch.setattr(rules, "POSITION_LIMIT", 0.1)
            said = await site.ask(get(("one", 9, TOP + 1)))
            assert said.endswith(b"\r\n\r\nProxy timeout\n")
            assert b"Set-Cookie" not in said

    trio.run(main)


def test_what_does_not_come_in_time_is_for_the_primary_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the end of a history that was longer than this one."""
    monkeypatch.setattr(rules, "POSITION_LIMIT", 0.1)

    async def main() -> None:
        async with proxied(echo, db=["one"]) as site:
            databases(site, one=(9, TOP + 9))
            site.follow("two")
            assert b"Fly-Replay: instance=two\r\n" in await site.ask(get(("one", 10, TOP)))
            assert (await site.ask(get(txid=10))).startswith(b"HTTP/1.1 504 ")  # LiteFS's cookie: as LiteFS
            site.role.follow(None)
            assert (await site.ask(get(("one", 10, TOP)))).endswith(b"\r\n\r\nProxy timeout\n")

    trio.run(main)


def test_a_client_that_leaves_while_it_waits() -> None:
    async def main() -> None:
        async with proxied(echo, db=["one"], write_timeout="200ms") as site, await site.connect() as client:
            databases(site, one=(9, TOP + 9))
            site.follow("two")
            await client.send_all(get(("one", 10, TOP)))
            assert (await rest(client)).startswith(b"HTTP/1.1 504 ")

    trio.run(main)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], 'proxy.db: "a" cannot be told from "a": remove one of them'),
        ([f"{n}.db" for n in range(17)], r"proxy.db: 17 databases, at most 16 fit into a cookie"),
        (["a", "a/b"], r"proxy\.db: invalid database name"),
        ([], "proxy database name required"),
    ],
)
def test_lists_that_cannot_be(names: list[str], message: str) -> None:
    section: dict[str, Any] = {"target": ":1", "addr": ":1", "db": names}
    with pytest.raises(ConfigError, match=message):
        plugin.make(proxy_config(plugin, section), node_info())


@pytest.mark.parametrize(
    ("config", "warns"),
    [
        ({"db": ["one"]}, False),
        ({"db": ["one"], "cookie_max_age": "1h"}, True),
        ({"db": "one", "cookie_max_age": "1h"}, False),
    ],
)
def test_files_that_go_before_the_cookies_do(
    config: dict[str, Any], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with proxied(echo, **config):
            pass

    trio.run(main)
    assert ("clients keep positions for 3600 s, transaction files are kept for 600 s" in caplog.text) is warns
