"""Applications that write where they should only read, on real nodes."""

from __future__ import annotations

import http.client
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.support.nodes import Node, free_port

from .test_node import Application, application, proxy


class Counter(Application):
    """A GET of /visit adds a row; what fails is a 500, whatever it was."""

    def do_GET(self) -> None:
        statement = "insert into t values (1) returning (select count(*) from t)"
        try:
            self._say(self._run(statement if self.path == "/visit" else "select count(*) from t"))
        except sqlite3.Error as error:
            self._say(str(error), 500)


@pytest.fixture(params=["wal", "delete"])
def ports(make_node: Callable[..., Node], request: pytest.FixtureRequest) -> Iterator[list[int]]:
    """Those of the proxies of a primary and its replica."""
    ports, targets = [free_port(), free_port()], [free_port(), free_port()]
    settings: list[dict[str, Any]] = [
        proxy(port, target, redirect="forward", **{"write-on-get": "replay"})
        for port, target in zip(ports, targets, strict=True)
    ]
    one = make_node("one", settings=settings[0]).start()
    with closing(sqlite3.connect(one.path("db"))) as db:
        db.execute(f"pragma journal_mode={request.param}")
        db.execute("create table t (x)")
    two = make_node("two", primary=one, settings=settings[1]).start()
    with ExitStack() as stack:
        for node, target in ((one, targets[0]), (two, targets[1])):
            stack.enter_context(application(node, target, Counter))
        yield ports


def test_a_visitor_of_a_replica_is_counted(ports: list[int]) -> None:
    cookies: dict[int, str] = {}
    count = 0
    for _ in range(4):
        for port in reversed(ports):
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                count += 1
                connection.request("GET", "/visit", headers={"Cookie": cookies.get(port, "")})
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (200, str(count).encode())
                cookies[port] = str(answer.headers["Set-Cookie"]).partition(";")[0]
                connection.request("GET", "/", headers={"Cookie": cookies[port]})
                assert connection.getresponse().read() == str(count).encode()
