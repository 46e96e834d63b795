"""Clients of two nodes while the primary is switched: never a stale read, never a lost or doubled write.

``--proxy-writes N`` has each client write N times; a few hundred otherwise.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import statistics
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.nodes import Node, free_port
from tests.support.waiting import wait_for

from .test_node import Application, application, proxy

MakeNode = Callable[..., Node]
WRITES = 300  # of each client
SWITCHES = 2
LIMIT = 0.1  # seconds a write and its reading back may take on the average, on a busy machine


class Numbers(Application):
    """POST /CLIENT/N adds a number, once; GET /CLIENT says the highest; GET /on/HOST wants to be served there."""

    hostname = ""

    def do_GET(self) -> None:
        if self.path.startswith("/on/") and "Fly-Replay-Src" not in self.headers:
            self.send_response(409)
            self.send_header("Fly-Replay", f"instance={self.path[4:]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/on/"):
            self._say(f"{self.hostname}, from {self.headers['Fly-Replay-Src'].split(';')[0]}")
        else:
            self._answer("select coalesce(max(n), 0) from numbers where client = ?", self.path[1:])

    def do_POST(self) -> None:
        self._answer("insert into numbers values (?, ?) returning n", *self.path[1:].split("/"))

    def _answer(self, statement: str, *values: str) -> None:
        try:
            with closing(sqlite3.connect(self.path_of_database, timeout=10, isolation_level=None)) as db:
                self._say(str(db.execute(statement, values).fetchall()[0][0]))
        except sqlite3.Error as error:
            self._say(str(error), 500)


@dataclass(frozen=True)
class Failure:
    """A request that was not served."""

    what: str
    began: float
    ended: float


class Browser(threading.Thread):
    """Writes to one node and reads back from it at once, again and again; what was refused it tries again."""

    def __init__(self, name: str, port: int, writes: int) -> None:
        super().__init__()
        self.name = name
        self.port = port
        self.writes = writes
        self.done = 0
        self.stale: list[str] = []
        self.failures: list[Failure] = []
        self.seconds: dict[str, list[float]] = {"POST": [], "GET": []}
        self.stop = threading.Event()
        self._cookies: dict[str, str] = {}

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            for n in range(1, self.writes + 1):
                if not self._until_served(connection, "POST", f"/{self.name}/{n}", n):
                    return
                if not self._until_served(connection, "GET", f"/{self.name}", n):
                    return
                self.done = n

    def _until_served(self, connection: http.client.HTTPConnection, method: str, path: str, wanted: int) -> bool:
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                status, text = self._ask(connection, method, path)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, text = 0, repr(error)
            ended = time.monotonic()
            if status == 200:
                self.seconds[method].append(ended - began)
                if text != str(wanted):
                    self.stale.append(f"{method}: {text} instead of {wanted}, with {self._cookies}")
                return True
            self.failures.append(Failure(f"{method} {status} {text}", began, ended))
        return False

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, str]:
        connection.request(method, path, headers={"Cookie": "; ".join(map("=".join, self._cookies.items()))})
        answer = connection.getresponse()
        for line in answer.headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self._cookies[name] = value
        return answer.status, answer.read().decode().strip()


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Consul]:
    folder = tmp_path / "consul"
    folder.mkdir()
    with running_consul(folder) as agent:
        yield agent


@pytest.mark.slow
def test_read_your_writes_while_the_primary_is_switched(
    make_node: MakeNode, consul: Consul, request: pytest.FixtureRequest
) -> None:
    writes = request.config.getoption("--proxy-writes") or WRITES
    nodes, browsers = [], []
    with ExitStack() as stack:
        for name in ("one", "two"):
            port, target = free_port(), free_port()
            nodes.append(_start(make_node(name), consul, port, target))
            stack.enter_context(application(nodes[-1], target, type("At", (Numbers,), {"hostname": name})))
            browsers.append(Browser(name, port, writes))
        assert _get(browsers[0].port, "/on/two") == "two, from instance=one"
        stack.callback(_stop, browsers)
        began = time.monotonic()
        for browser in browsers:
            browser.start()
        windows = []
        for switch in range(SWITCHES):
            _wait_for_writes(browsers, writes * (switch + 1) // (SWITCHES + 1))
            windows.append(_switch(nodes[1 - switch % 2], nodes[switch % 2]))
        _wait_for_writes(browsers, writes)
        took = time.monotonic() - began
    _report(browsers, windows, took)
    assert not [browser.stale for browser in browsers if browser.stale]
    for failure in (failure for browser in browsers for failure in browser.failures):
        assert failure.what.partition(" ")[2] == "503 Proxy error: no primary available"
        assert any(begin <= failure.ended and failure.began <= end for begin, end in windows), (failure, windows)
    nodes[1].wait_pos("db", nodes[0].pos("db"))
    for node in nodes:
        with closing(sqlite3.connect(node.path("db"))) as db:
            for browser in browsers:
                numbers = db.execute("select n from numbers where client = ? order by n", (browser.name,)).fetchall()
                assert [n for (n,) in numbers] == list(range(1, writes + 1))
            assert db.execute("pragma integrity_check").fetchall() == [("ok",)]


def _start(node: Node, consul: Consul, port: int, target: int) -> Node:
    lease = {"type": "consul", "hostname": node.name, "advertise-url": node.url, "candidate": True}
    settings = proxy(port, target, redirect="forward", db=["db"])
    node.configure({**settings, "lease": {**lease, "consul": {"url": consul.url, "key": "switch"}}})
    node.start()
    if node.name == "one":
        with closing(sqlite3.connect(node.path("db"))) as db:
            db.execute("pragma journal_mode=wal")
            db.execute("create table numbers (client, n int, primary key (client, n))")
    return node


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return str(answer.read().decode())


def _stop(browsers: list[Browser]) -> None:
    for browser in browsers:
        browser.stop.set()
        browser.join(60)


def _wait_for_writes(browsers: list[Browser], number: int) -> None:
    """Until each has done that many, and read them back."""
    behind = max(number - browser.done for browser in browsers)
    limit = 60 + LIMIT * behind
    wait_for(lambda: all(each.done >= number or not each.is_alive() for each in browsers), f"{number} writes", limit)


def _switch(new: Node, old: Node) -> tuple[float, float]:
    """Make the other one primary; from when to when that took."""
    began = time.monotonic()
    new.post("/promote")
    wait_for(lambda: (_role(new), _role(old)) == ("primary", "replica"), "the switch", 30)
    return began, time.monotonic()


def _role(node: Node) -> str:
    with urllib.request.urlopen(f"{node.url}/status?databases=none", timeout=10) as answer:
        return str(json.load(answer)["role"])


def _report(browsers: list[Browser], windows: list[tuple[float, float]], took: float) -> None:
    """For people: shown by pytest -s."""
    print(f"\n{sum(b.done for b in browsers)} writes, each read back, in {took:.1f} s;", end=" ")
    print(f"switches of {', '.join(f'{1000 * (end - begin):.0f} ms' for begin, end in windows)}")
    for browser in browsers:
        for method, seconds in browser.seconds.items():
            cuts = statistics.quantiles(seconds, n=100)
            print(f"  at {browser.name}: {method} p50 {1000 * cuts[49]:.1f} ms, p99 {1000 * cuts[98]:.1f} ms,", end=" ")
            print(f"longest {1000 * max(seconds):.0f} ms")
        print(f"  at {browser.name}: failures {dict(Counter(each.what for each in browser.failures))}")
