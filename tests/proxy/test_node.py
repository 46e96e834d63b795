"""The proxy on real nodes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sqlite3
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.nodes import Node, free_port
from tests.support.waiting import wait_for

MakeNode = Callable[..., Node]


class Application(BaseHTTPRequestHandler):
    """POST adds a row, GET counts them."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet: else the second one waits 40 ms for the first to be acknowledged
    path_of_database = ""

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._say(self._run("select count(*) from t"))

    def do_POST(self) -> None:
        self._say(self._run("insert into t values (1) returning (select count(*) from t)"))

    def _run(self, statement: str) -> str:
        with closing(sqlite3.connect(self.path_of_database, timeout=10, isolation_level=None)) as db:
            return str(db.execute(statement).fetchall()[0][0])

    def _say(self, text: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@contextmanager
def application(node: Node, port: int, kind: type[Application] = Application) -> Iterator[None]:
    handler = type("Application", (kind,), {"path_of_database": node.path("db")})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True  # the proxy keeps its connections
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def proxy(port: int, target: int, **more: Any) -> dict[str, Any]:
    return {"proxy": {"addr": f"127.0.0.1:{port}", "target": f"localhost:{target}", "db": "db", **more}}


def test_clients_read_what_they_wrote(make_node: MakeNode) -> None:
    ports = [free_port() for _ in range(4)]
    one = make_node("one", settings=proxy(ports[0], ports[1])).start()
    with closing(sqlite3.connect(one.path("db"))) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("create table t (x)")
    two = make_node("two", primary=one, settings=proxy(ports[2], ports[3])).start()
    with application(one, ports[1]), application(two, ports[3]):
        here, there = (http.client.HTTPConnection("127.0.0.1", port, timeout=20) for port in (ports[0], ports[2]))
        for n in range(1, 101):
            here.request("POST", "/")
            answer = here.getresponse()
            assert answer.read() == str(n).encode()
            there.request("GET", "/", headers={"Cookie": str(answer.headers["Set-Cookie"]).partition(";")[0]})
            assert there.getresponse().read() == str(n).encode()
        there.request("POST", "/")
        answer = there.getresponse()
        assert answer.headers["Fly-Replay"] == "instance=one"
        answer.read()
        here.close()
        there.close()
    counts = _proxy_requests(two)
    assert (counts["forwarded"], counts["replayed"], counts["failed"]) == (100, 1, 0)


def _proxy_requests(node: Node) -> dict[str, float]:
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'litefs_proxy_requests_total{outcome="(.*?)"} (.*)', text)
    return {name: float(value) for name, value in found}


def test_a_port_in_use(make_node: MakeNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = make_node("one", settings=proxy(port, 1)).spawn()
        assert node.process is not None
        assert node.process.wait(20) == 1
        assert f"cannot listen on 127.0.0.1:{port}: address already in use" in node.log()
        assert "stop the process that uses it, or set proxy.addr" in node.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_whatever_is_under_way(make_node: MakeNode, number: signal.Signals) -> None:
    port, target = free_port(), free_port()
    node = make_node("one", settings=proxy(port, target)).start()
    assert node.process is not None
    with socket.create_server(("127.0.0.1", target)) as silent:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        clients[1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        clients[2].sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\na")
        asked = [silent.accept()[0] for _ in range(2)]
        os.kill(node.process.pid, number)
        wait_for(lambda: "litefs shutting down" in node.log(), "the first signal's effect")
        os.kill(node.process.pid, number)  # in a hurry
        assert node.process.wait(5) == 0
        for sock in (*clients, *asked):
            sock.close()


def test_too_many_connections_do_not_hurt_the_node(make_node: MakeNode) -> None:
    port, target = free_port(), free_port()
    node = make_node("one", settings=proxy(port, target))
    node.start(prefix=["sh", "-c", 'ulimit -n 600; exec "$@"', "sh"])
    clients = []
    with application(node, target):
        for _ in range(600):
            clients.append(socket.create_connection(("127.0.0.1", port)))
        with closing(sqlite3.connect(node.path("db"))) as db:
            db.execute("create table t (x)")
        assert _get(port) == b"0"  # those who say nothing make room
        for sock in clients:
            sock.close()


def _get(port: int) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


def test_writes_anywhere(make_node: MakeNode) -> None:
    """Elsewhere than on Fly: the replica's proxy sends writes on, and the same client reads them back from it."""
    ports = [free_port() for _ in range(4)]
    one = make_node("one", settings=proxy(ports[0], ports[1], redirect="forward")).start()
    with closing(sqlite3.connect(one.path("db"))) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("create table t (x)")
    two = make_node("two", primary=one, settings=proxy(ports[2], ports[3], redirect="forward")).start()
    connection = closing(http.client.HTTPConnection("127.0.0.1", ports[2], timeout=20))
    with application(one, ports[1]), application(two, ports[3]), connection as there:
        for n in range(1, 101):
            there.request("POST", "/")
            answer = there.getresponse()
            assert answer.read() == str(n).encode()
            there.request("GET", "/", headers={"Cookie": str(answer.headers["Set-Cookie"]).partition(";")[0]})
            assert there.getresponse().read() == str(n).encode()
