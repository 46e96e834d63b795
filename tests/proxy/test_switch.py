"""Clients of two nodes while the primary is switched: never a stale read, never a lost or doubled write."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.nodes import Node, free_port
from tests.support.waiting import wait_for

from .test_node import application, proxy

MakeNode = Callable[..., Node]
SWITCHES = 2


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Consul]:
    folder = tmp_path / "consul"
    folder.mkdir()
    with running_consul(folder) as agent:
        yield agent


class Browser(threading.Thread):
    """Posts to one node and reads back from it, with the cookie it was given last."""

    def __init__(self, port: int, stop: threading.Event) -> None:
        super().__init__()
        self.port = port
        self.stop = stop
        self.seen = 0
        self.stale: list[str] = []
        self.answers: Counter[tuple[str, int]] = Counter()
        self.texts: Counter[str] = Counter()
        self._cookie = ""

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            while not self.stop.is_set():
                written = self._ask(connection, "POST")
                self.seen = max(self.seen, written or 0)
                read = self._ask(connection, "GET")
                if read is not None and read < self.seen:
                    self.stale.append(f"{read} after {self.seen}, with {self._cookie}")
                self.seen = max(self.seen, read or 0)

    def _ask(self, connection: http.client.HTTPConnection, method: str) -> int | None:
        connection.request(method, "/", headers={"Cookie": self._cookie} if self._cookie else {})
        answer = connection.getresponse()
        text = answer.read().decode()
        self.answers[method, answer.status] += 1
        if answer.headers["Set-Cookie"]:
            self._cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]
        if answer.status != 200:
            self.texts[text] += 1
            return None
        return int(text)


@pytest.mark.slow
def test_read_your_writes_while_the_primary_is_switched(make_node: MakeNode, consul: Consul) -> None:
    nodes, ports, targets = [], [], []
    for name in ("one", "two"):
        ports.append(free_port())
        targets.append(free_port())
        node = make_node(name)
        lease = {"type": "consul", "hostname": name, "advertise-url": node.url, "candidate": True}
        settings: dict[str, Any] = proxy(ports[-1], targets[-1], redirect="forward")
        node.configure({**settings, "lease": {**lease, "consul": {"url": consul.url, "key": "switch"}}})
        nodes.append(node.start())
        if name == "one":
            with closing(sqlite3.connect(node.path("db"))) as db:
                db.execute("pragma journal_mode=wal")
                db.execute("create table t (x)")
    stop = threading.Event()
    browsers = [Browser(port, stop) for port in ports]
    with application(nodes[0], targets[0]), application(nodes[1], targets[1]):
        for browser in browsers:
            browser.start()
        for switch in range(SWITCHES):
            _work(browsers)
            _switch(nodes[1 - switch % 2])
        _work(browsers)
        stop.set()
        for browser in browsers:
            browser.join(30)
    assert not [browser.stale for browser in browsers if browser.stale]
    for browser in browsers:
        assert not [key for key in browser.answers if key[1] not in (200, 503)], browser.texts


def _work(browsers: list[Browser]) -> None:
    """Let each of them have some answers."""
    enough = {browser: browser.answers["GET", 200] + 50 for browser in browsers}
    wait_for(lambda: all(each.answers["GET", 200] > enough[each] for each in browsers), "some requests", 60)


def _switch(new: Node) -> None:
    urllib.request.urlopen(urllib.request.Request(new.url + "/promote", method="POST"), timeout=30).close()
    wait_for(lambda: _role(new) == "primary", "the switch", 30)


def _role(node: Node) -> str:
    with urllib.request.urlopen(f"{node.url}/status?databases=none", timeout=10) as answer:
        return str(json.load(answer)["role"])
