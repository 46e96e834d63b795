"""The role as the platform is told it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from litefs_proxy_fly import metadata
from litefs_proxy_fly.metadata import RoleMetadata, on_fly

from litefs.cluster.role import Role
from litefs.store.events import EventHub
from tests.support.proxy import Reader


def test_only_on_fly() -> None:
    assert on_fly({}) is None
    assert on_fly({"FLY_APP_NAME": "app", "FLY_MACHINE_ID": "m"}) is not None


def test_it_tells_each_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "PAUSE", 0.05)
    told: list[str] = []
    requests = 0

    async def platform(stream: trio.SocketStream) -> None:
        nonlocal requests
        requests += 1
        reader = Reader(stream)
        head = await reader.until(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/apps/app/machines/m1/metadata/role HTTP/1.1\r\nHost: localhost\r\n")
        if requests == 1:
            await stream.send_all(b"HTTP/1.1 500 Oh\r\n\r\n")
            return
        told.append(json.loads(await reader.until(b"}"))["value"])
        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def main() -> None:
        path = str(tmp_path / "api")
        role = Role("one", candidate=True, events=EventHub())
        node: Any = SimpleNamespace(role=role)
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(path)
        sock.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, platform, [trio.SocketListener(sock)])
            await nursery.start(RoleMetadata("app", "m1", path).run, node)
            with trio.fail_after(10):
                for lead in (None, True, False):
                    if lead is not None:
                        role.lead() if lead else role.follow(None)
                    wanted = len(told) + 1
                    while len(told) < wanted:
                        await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert told == ["replica", "primary", "replica"]

    trio.run(main)


def test_it_gives_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def main() -> None:
        role = Role("one", candidate=True, events=EventHub())
        node: Any = SimpleNamespace(role=role)
        async with trio.open_nursery() as nursery:
            await nursery.start(RoleMetadata("app", "m1", str(tmp_path / "none")).run, node)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [line for line in caplog.messages if line.startswith("cannot set environment metadata: ")]
