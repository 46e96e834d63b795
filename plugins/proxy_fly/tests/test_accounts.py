"""What is said of requests: access log, metrics, Server-Timing."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
import trio.testing
from litefs_proxy_fly import accesslog
from litefs_proxy_fly.accesslog import AccessLog
from litefs_proxy_fly.account import Account
from litefs_proxy_fly.outcomes import OUTCOMES, Durations
from prometheus_client import CollectorRegistry

from tests.support.proxy import GET, GET_CLOSE, FakeDatabase, Reader, echo, proxied, rest

WAITS = b"GET /r?q HTTP/1.1\r\nHost: h\r\nConnection: close\r\nCookie: __txid=0000000000000009\r\n\r\n"


def metric(name: str, **labels: str) -> float:
    registry = CollectorRegistry()
    registry.register(OUTCOMES)
    return registry.get_sample_value(name, labels) or 0.0


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        record.fields for record in caplog.records if record.name == accesslog.log.name and hasattr(record, "fields")
    ]


async def application(stream: trio.SocketStream) -> None:
    with contextlib.suppress(AssertionError):  # a request that was broken off
        await echo(stream)


async def of_each_kind() -> None:
    """Requests that are forwarded, answered, refused, broken off by the client."""
    async with proxied(application, access_log=True) as site:
        await site.ask(b"POST /w HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab")
        site.store.databases["db"] = FakeDatabase(9)
        await site.ask(WAITS)
        await site.ask(b"GET /litefs/health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        await site.ask(b"nonsense\r\n\r\n")
        async with await site.connect() as client:
            await client.send_all(b"POST /g HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab")
            await trio.testing.wait_all_tasks_blocked(0.05)
        await site.stop()


def test_a_line_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    trio.run(of_each_kind)
    write, read, health, nonsense, gone = lines(caplog)
    assert write["client"] == "127.0.0.1"
    assert [write[key] for key in ("method", "host", "target", "status")] == ["POST", "h", "/w", 200]
    assert 0 < write["app-ms"] <= write["ms"] < 20_000
    assert write["bytes"] == len(b"POST /w HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab")
    assert "wait-ms" not in write
    assert (read["target"], read["outcome"]) == ("/r?q", "forwarded")
    assert read["wait-ms"] >= 0
    assert (health["outcome"], health["status"]) == ("health", 200)
    assert "app-ms" not in health
    assert (nonsense["outcome"], nonsense["status"]) == ("refused", 400)
    assert "method" not in nonsense
    assert (gone["outcome"], gone["status"]) == ("gone", 0)


def test_no_lines_by_default(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with proxied(echo) as site:
            await site.ask(GET_CLOSE)
            await site.stop()

    trio.run(main)
    assert not lines(caplog)


def test_lines_that_nobody_takes_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accesslog, "MOST", 2)

    async def main() -> None:
        log = AccessLog()
        for _ in range(5):
            log.add(Account(0.0, None), "192.0.2.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert len(lines(caplog)) == 2
    assert "3 lines about requests were dropped" in caplog.records[-1].getMessage()
    caplog.clear()


def test_metrics_by_outcome() -> None:
    names = {"forwarded": 2, "health": 1, "refused": 1, "gone": 1}
    before = {name: metric("litefs_proxy_requests_total", outcome=name) for name in names}
    timed = {name: metric("litefs_proxy_request_seconds_count", outcome=name) for name in names}
    waits = metric("litefs_proxy_wait_seconds_count")
    trio.run(of_each_kind)
    for name, more in names.items():
        extra = 1 if name == "forwarded" else 0  # the one that was broken off had been forwarded
        assert metric("litefs_proxy_requests_total", outcome=name) == before[name] + more + extra
        assert metric("litefs_proxy_request_seconds_count", outcome=name) == timed[name] + more
    assert metric("litefs_proxy_wait_seconds_count") == waits + 1
    assert metric("litefs_proxy_connections") == 0


def test_connections_are_counted() -> None:
    async def main() -> None:
        async with proxied(echo) as site, await site.connect() as client:
            await client.send_all(GET)
            await Reader(client).until(b"\r\n\r\n")
            assert metric("litefs_proxy_connections") == 1

    trio.run(main)


def test_time_limits_are_counted_as_such(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await rest(stream)

    async def main() -> None:
        async with proxied(handler, write_timeout="200ms", read_header_timeout="1s", access_log=True) as site:
            await site.ask(GET)
            await site.ask(GET[:9])
            await site.ask(b"")
            await site.stop()

    trio.run(main)
    assert [(line["outcome"], line["status"]) for line in lines(caplog)] == [("late", 504), ("late", 408)]


def test_durations() -> None:
    durations = Durations()
    for seconds in (0.001, 0.002, 99.0):
        durations.add(seconds)
    assert dict(durations.buckets())["0.001"] == 1
    assert durations.buckets()[-1] == ("+Inf", 3.0)
    assert durations.sum == pytest.approx(99.003)


@pytest.mark.parametrize("position", [9, 8])
def test_server_timing(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litefs_proxy_fly.rules.POSITION_LIMIT", 0.1)

    async def main(*, wanted: bool) -> None:
        async with proxied(echo, server_timing=wanted) as site:
            site.store.databases["db"] = FakeDatabase(position)
            said = await site.ask(WAITS)
            assert (b"200 OK" if position == 9 else b"504 Gateway Timeout") in said
            assert (b"\r\nServer-Timing: litefs-wait;dur=" in said) is wanted
            assert b"Server-Timing" not in await site.ask(GET_CLOSE)

    trio.run(lambda: main(wanted=True))
    trio.run(lambda: main(wanted=False))


def test_requests_do_not_wait_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it may have stopped to."""
    stuck = trio.Event()

    def write(batch: object, dropped: int) -> None:
        trio.from_thread.run_sync(stuck.set)
        trio.from_thread.run(trio.sleep, 1.0)

    async def main() -> None:
        async with proxied(echo, access_log=True) as site:
            await site.ask(GET_CLOSE)
            await stuck.wait()
            with trio.fail_after(5):
                assert b"200 OK" in await site.ask(GET_CLOSE)

    monkeypatch.setattr(accesslog, "_write", write)
    trio.run(main)
