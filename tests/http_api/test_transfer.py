"""POST /import and GET /export."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h2.events
import pytest

from litefs.errors import DatabaseBusy
from litefs.http import connection, exporting

from .fakes import FakeNode, FakeSnapshot
from .server import RawH2, Server, wait_until

NAMES = ["db", "a b.db", "ü.sqlite", "x%y", "a+b", "q?a=b&c", "#1", "%2e%2e"]


def make_image(path: Path, rows: int = 50, mode: str = "delete", page_size: int = 4096) -> bytes:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"pragma page_size={page_size}")
    db.execute(f"pragma journal_mode={mode}")
    db.execute("create table t (x)")
    db.execute("begin")
    db.executemany("insert into t values (?)", ((os.urandom(500),) for _ in range(rows)))
    db.execute("commit")
    db.close()
    return path.read_bytes()


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    return make_image(tmp_path / "image.db")


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name: str, node: FakeNode, http: Any, image: bytes) -> None:
    response = http.post("/import", params={"name": name}, content=image)
    assert (response.status_code, response.content) == (200, b"")
    assert node.store.databases[name].image == image
    response = http.get("/export", params={"name": name})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-length"] == str(len(image))
    assert response.content == image


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", ".", "db-wal", "db-journal", ".primary", "x" * 300, "a\0b"])
def test_names_that_are_none(name: str, node: FakeNode, http: Any, image: bytes) -> None:
    assert http.post("/import", params={"name": name}, content=image).status_code == 400
    assert http.get("/export", params={"name": name}).status_code == 400
    assert node.store.databases == {}


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("page_size", [512, 65536])
def test_import_takes_any_mode_and_page_size(
    mode: str, page_size: int, tmp_path: Path, node: FakeNode, http: Any
) -> None:
    image = make_image(tmp_path / "other.db", mode=mode, page_size=page_size)
    assert http.post("/import?name=db", content=image).status_code == 200
    assert node.store.databases["db"].image == image


def test_import_in_chunks_of_any_size(node: FakeNode, server: Server, image: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        for at in range(0, len(image), 777):
            yield image[at : at + 777]

    with server.http1() as http:
        assert http.post("/import?name=db", content=pieces()).status_code == 200
    assert node.store.databases["db"].image == image


def test_import_cuts_off_what_follows_the_last_page(node: FakeNode, http: Any, image: bytes) -> None:
    assert http.post("/import?name=db", content=image + bytes(5000)).status_code == 200
    assert node.store.databases["db"].image == image


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        (lambda image: b"", "read database header: EOF\n"),
        (lambda image: b"short", "read database header: invalid database header"),
        (lambda image: b"not a database" * 400, "read database header: invalid database header"),
        (lambda image: image[:4096], "read page 2: EOF"),
        (lambda image: image[:-1], "EOF"),
        (lambda image: image[:16] + b"\0\3" + image[18:], "read database header: invalid database header"),
        (lambda image: image[:28] + bytes(4) + image[32:-1], "EOF"),  # no page count in the header: whole pages only
    ],
)
def test_bad_imports_change_nothing(cut: Any, text: str, node: FakeNode, http: Any, image: bytes) -> None:
    response = http.post("/import?name=db", content=cut(image))
    assert response.status_code == 500
    assert text in response.text
    assert node.store.databases == {}
    assert list(node.store.data_dir.iterdir()) == [node.store.data_dir / "image.db"]


def test_import_on_a_replica(node: FakeNode, http: Any, image: bytes) -> None:
    node.become_replica()
    response = http.post("/import?name=db", content=image)
    assert (response.status_code, response.text) == (503, "lease expired\n")


def test_an_import_that_is_cut_short(node: FakeNode, server: Server, image: bytes) -> None:
    with server.connect() as sock:
        head = f"POST /import?name=db HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n"
        sock.sendall(head.encode() + image[: len(image) // 2])
    with server.http1() as http:
        assert http.get("/info").status_code == 200
    server.stop()
    assert node.store.databases == {}


def test_export_of_what_is_not_there(node: FakeNode, http: Any) -> None:
    node.add("dropped", b"")
    for name in ("none", "dropped"):
        response = http.get("/export", params={"name": name})
        assert (response.status_code, response.text) == (404, "database not found\n")
    response = http.get("/export")
    assert (response.status_code, response.text) == (400, "name required\n")


def test_export_fills_the_lock_page(node: FakeNode, http: Any) -> None:
    class Gap(FakeSnapshot):
        def pages(self, batch: int = 256) -> Iterator[tuple[int, bytes]]:
            yield 1, b"a" * 4096
            yield 3, b"c" * 4096
            # the last page is missing, too

    node.add("db", bytes(4 * 4096)).make_snapshot = Gap
    got = http.get("/export?name=db").content
    assert got == b"a" * 4096 + bytes(4096) + b"c" * 4096 + bytes(4096)


def test_an_export_that_fails_half_way_cannot_be_taken_for_complete(
    node: FakeNode, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeSnapshot):
        def pages(self, batch: int = 256) -> Iterator[tuple[int, bytes]]:
            yield 1, bytes(4096)
            raise OSError(5, "Input/output error")

    db = node.add("db", bytes(8192))
    db.make_snapshot = Broken
    with pytest.raises(Exception, match=r"(?i)reset|peer closed|incomplete|terminated"):
        http.get("/export?name=db")
    assert http.get("/info").status_code == 200
    assert db.snapshots == 0
    assert "http: GET /export: error: [Errno 5] Input/output error" in caplog.messages


def test_a_busy_database(node: FakeNode, http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(image: bytes, page_size: int) -> FakeSnapshot:
        raise DatabaseBusy("db: applications kept a lock for 5 s")

    node.add("db", bytes(4096)).make_snapshot = busy
    response = http.get("/export?name=db")
    assert (response.status_code, response.text) == (503, "db: applications kept a lock for 5 s\n")


def test_a_client_that_stops_reading_loses_its_snapshot(
    node: FakeNode, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALL", 0.1)
    db = node.add("db", bytes(64 << 20))
    with server.connect() as sock:
        sock.sendall(b"GET /export?name=db HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.recv(1000)
        wait_until(lambda: not db.snapshots)


def test_an_http2_client_that_shuts_the_window_loses_its_snapshot(
    node: FakeNode, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "STALL", 0.1)
    db = node.add("db", bytes(64 << 20))
    with RawH2(server.port) as client:
        stalled = client.request("GET", "/export?name=db")
        client.until(lambda: client.size(stalled) == 65535)  # all that the window allows
        wait_until(lambda: not db.snapshots)
        client.until(lambda: client.ended(stalled, h2.events.StreamReset))
        client.h2.increment_flow_control_window(1 << 20)  # the connection's
        info = client.request("GET", "/info")
        client.until(lambda: client.ended(info, h2.events.StreamEnded))


def test_a_client_that_leaves_frees_its_snapshot(node: FakeNode, server: Server) -> None:
    db = node.add("db", bytes(64 << 20))
    with server.connect() as sock:
        sock.sendall(b"GET /export?name=db HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.recv(1000)
        assert db.snapshots == 1
    wait_until(lambda: not db.snapshots)
