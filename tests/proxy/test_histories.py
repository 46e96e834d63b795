"""Clients that have seen what the cluster went on without."""

from __future__ import annotations

import http.client
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from http.cookies import SimpleCookie

from tests.support.nodes import Node, free_port

from .test_node import application, proxy

MakeNode = Callable[..., Node]


class Client:
    """Keeps cookies as a browser does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}

    def ask(self, method: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, "/", headers={"Cookie": "; ".join(map("=".join, self.cookies.items()))})
            answer = connection.getresponse()
            for line in answer.headers.get_all("Set-Cookie", []):
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
            return answer.status, answer.read().decode()


def mark(node: Node, value: int) -> None:
    """Make the history another one: with the same content positions would be the same."""
    with closing(sqlite3.connect(node.path("db"))) as db, db:
        db.execute("update t set x = ?", (value,))


def test_a_write_that_is_lost_is_not_taken_for_another_one(make_node: MakeNode) -> None:
    """A primary loses its last transaction with its disk, and goes on; a replica follows it."""
    ports = [free_port() for _ in range(4)]
    one = make_node("one", settings=proxy(ports[0], ports[1], db=["db"], redirect="forward")).start()
    with closing(sqlite3.connect(one.path("db"))) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("create table t (x)")
    loser, lucky = Client(ports[0]), Client(ports[0])
    with application(one, ports[1]):
        assert lucky.ask("POST") == (200, "1")
    one.stop()
    shutil.copytree(one.data, one.directory / "copy")
    one.start()
    mark(one, 5)
    with application(one, ports[1]):
        assert loser.ask("POST") == (200, "2")
    one.stop()
    shutil.rmtree(one.data)
    (one.directory / "copy").rename(one.data)
    one.start()
    two = make_node("two", primary=one, settings=proxy(ports[2], ports[3], db=["db"], redirect="forward")).start()
    with application(one, ports[1]), application(two, ports[3]):
        assert lucky.ask("GET") == (200, "1")  # found in the files: the process is a new one
        mark(one, 6)
        assert Client(ports[0]).ask("POST") == (200, "2")  # the TXID that the loser has seen
        two.wait_pos("db", one.pos("db"))
        lost = dict(loser.cookies)
        for port in (ports[0], ports[2]):  # the replica asks the primary
            loser.cookies, loser.port = dict(lost), port
            status, text = loser.ask("GET")
            assert (status, text[:12]) == (504, "Proxy error:")
            assert loser.cookies != lost
            assert loser.ask("GET") == (200, "2")
        lucky.port = ports[2]
        assert lucky.ask("GET") == (200, "2")  # the replica never had the position: the primary vouches for it
