"""``litefs status``, ``promote`` and ``demote`` on real nodes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.nodes import COMMAND
from tests.support.waiting import wait_for

from .cluster import Member, make_table, wait_same

pytestmark = pytest.mark.slow


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=90, env=os.environ)


def status(node: Member) -> tuple[int, dict[str, Any]]:
    done = cli("status", "-json", "-url", node.url)
    return done.returncode, json.loads(done.stdout)


def roles(found: dict[str, Any]) -> dict[str, str]:
    return {node["hostname"]: node["role"] for node in found["nodes"]}


def test_three_nodes(make_member: Callable[..., Member]) -> None:
    a = make_member("a").start()
    b = make_member("b").start()
    c = make_member("c", candidate=False).start()
    make_table(a)
    for node in (b, c):
        wait_same(a, node)
    expected = {"a": "primary", "b": "replica", "c": "replica"}
    for node in (a, b, c):
        code, found = wait_for(lambda node=node: known(node, 3), f"whole cluster, from {node.name}")
        assert (code, roles(found), found["problems"]) == (0, expected, [])
        positions = {item["databases"]["db"]["txid"] for item in found["nodes"]}
        assert positions == {f"{a.pos('db').txid:016x}"}
    shown = cli("status", "-url", c.url)
    assert shown.returncode == 0
    assert f"db        2      {a.pos('db').txid:x}" in shown.stdout

    done = cli("promote", "-url", c.url, "-target", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("b is primary after ")
    assert b.is_primary
    wait_for(lambda: roles(status(c)[1]) == {"a": "replica", "b": "primary", "c": "replica"}, "new roles")
    refused = cli("promote", "-url", c.url)
    assert refused.returncode == 1
    assert "not eligible to become primary" in refused.stderr

    assert "a is not primary: the primary is b" in cli("demote", "-url", a.url).stderr
    done = cli("demote", "-url", b.url, "-target", "a")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("b is no longer primary, a is, after ")
    assert a.is_primary
    wait_for(lambda: not b.is_primary and b.info()["primary"]["hostname"] == "a", "b following a")

    c.kill()
    code, found = status(a)
    assert code == 1
    assert [item["hostname"] for item in found["nodes"] if not item["reachable"]] == ["c"]


def known(node: Member, count: int) -> tuple[int, dict[str, Any]] | None:
    code, found = status(node)
    return (code, found) if len(found["nodes"]) == count else None


def test_nobody_to_hand_over_to(make_member: Callable[..., Member]) -> None:
    a = make_member("a", **{"demote-delay": "5s"}).start()
    code, found = status(a)
    assert (code, roles(found)) == (0, {"a": "primary"})
    refused = cli("demote", "-url", a.url, "-target", "0" * 15 + "1")
    assert refused.returncode == 1
    assert a.is_primary
