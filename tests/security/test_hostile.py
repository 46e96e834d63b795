"""What a stranger sends: names that lead elsewhere, sizes that are lies, heads that never end. Against real nodes."""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from litefs import ltx
from litefs.ltx import EMPTY, Pos
from litefs.replication import frames, posmap
from tests.support.nodes import Node, free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

MakeNode = Callable[..., Node]

NAMES = [
    "../evil", "..%2fevil", "%2e%2e%2fevil", "%2e%2e/%2e%2e/evil", "..", ".", "/etc/evil", "%2Ftmp%2Fevil", "a/b",
    "evil%00", "%00", "x" * 256, "x" * 248, "%ff" * 250, "evil-wal", "evil-shm", "evil-journal", "evil-pos",
    "evil-lock", "evil-mj012345678", ".primary", ".lag", "",
]  # fmt: skip


def image(path: Path, rows: int = 10) -> bytes:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE t (x)")
        db.executemany("INSERT INTO t VALUES (?)", [(os.urandom(100),) for _ in range(rows)])
    return path.read_bytes()


def listing(directory: Path) -> set[str]:
    """Every path around and in a node's directories, save its mount."""
    found = set()
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name != "mnt"]
        found |= {os.path.join(folder, name) for name in [*folders, *files]}
    return found


def memory(node: Node) -> int:
    """Bytes that the process has in memory."""
    assert node.process is not None
    for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def address(node: Node) -> tuple[str, int]:
    host, _, port = node.url.partition("://")[2].rpartition(":")
    return host, int(port)


def works(node: Node) -> bool:
    """Whether the node takes a commit and answers, soon."""
    started = time.monotonic()
    with closing(sqlite3.connect(node.path("works"), timeout=5, isolation_level=None)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS t (x)")
        db.execute("INSERT INTO t VALUES (1)")
    assert httpx.get(f"{node.url}/livez", trust_env=False, timeout=5).status_code == 200
    return time.monotonic() - started < 5


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_nowhere(shared: Node, tmp_path: Path, name: str) -> None:
    content = image(tmp_path / "image")
    before = listing(shared.directory)
    with httpx.Client(base_url=shared.url, trust_env=False) as http:
        assert http.post(f"/import?name={name}", content=content).status_code == 400
        assert http.get(f"/export?name={name}").status_code in (400, 404)
        assert http.post(f"/halt?name={name}&id=1").status_code != 200
        assert http.post(f"/tx?name={name}&lockID=1", content=b"").status_code != 200
    assert listing(shared.directory) == before
    assert not Path("/tmp/evil").exists()
    assert works(shared)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("shared") / "node").start()
    yield node
    node.stop()
    node.destroy()
    assert not node.surprises()


def test_names_in_a_position_map(shared: Node) -> None:
    headers = {"Litefs-Stream": "1", "Litefs-Id": "00000000000000AA"}
    with httpx.Client(base_url=shared.url, trust_env=False) as http:
        for body in [
            b"",
            b"\xff\xff\xff\xff",
            struct.pack(">II", 1, 0xFFFFFFFF),
            struct.pack(">II", 0xFFFFFFFF, 1) + bytes(100),
            posmap.encode({"../evil": Pos(1, EMPTY)}),
            posmap.encode({"a\0b": Pos(1, EMPTY)}),
            posmap.encode({"db": Pos(1, EMPTY)}) + b"x",
        ]:
            response = http.post("/stream", content=body, headers=headers)
            assert response.status_code == 400
            assert response.text.startswith("position map")
        assert http.post("/stream", content=bytes(posmap.MAX_BODY + 1), headers=headers).status_code == 413
    assert works(shared)


def test_bad_ids_and_filters(shared: Node) -> None:
    with httpx.Client(base_url=shared.url, trust_env=False) as http:
        for node_id in ("", "1", "x" * 16, "0" * 17, "\u0660" * 16, "-000000000000001", "0x00000000000001"):
            response = http.post("/handoff", params={"nodeID": node_id})
            assert (response.status_code, response.text) == (400, "invalid node id\n")
        filters = "&".join(f"filter=../{number}" for number in range(500))
        headers = {"Litefs-Stream": "1", "Litefs-Id": "nonsense"}
        empty = posmap.encode({})
        with http.stream("POST", f"/stream?{filters}", content=empty, headers=headers) as response:
            assert response.status_code == 200
            assert next(response.iter_raw()).startswith(frames.READY)


def test_web_pages_change_nothing(shared: Node, tmp_path: Path) -> None:
    content = image(tmp_path / "image")
    with httpx.Client(base_url=shared.url, trust_env=False) as http:
        for origin in ("http://evil.example", "null", shared.url):
            response = http.post("/import?name=web", content=content, headers={"Origin": origin})
            assert (response.status_code, response.text) == (403, "not for web pages\n")
        assert http.get("/info", headers={"Origin": "http://evil.example"}).status_code == 200
        assert http.get("/export?name=web").status_code == 404


def test_lengths_that_are_lies(shared: Node, tmp_path: Path) -> None:
    content = image(tmp_path / "image")
    room = os.statvfs(shared.data)
    head = f"POST /import?name=lies HTTP/1.1\r\nHost: x\r\nContent-Length: {room.f_blocks * room.f_frsize * 2}\r\n\r\n"
    with socket.create_connection(address(shared), timeout=30) as sock:
        sock.sendall(head.encode() + content)  # and no end: the answer comes all the same
        assert sock.recv(1000).startswith(b"HTTP/1.1 507 ")
    for head in [
        "Content-Length: 99999999999999999999999999",
        "Content-Length: -1",
        "Content-Length: 10\r\nContent-Length: 20",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: gzip, chunked",
    ]:
        answer = raw(shared, f"POST /import?name=lies HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\nffffffffffffffffffffff\r\n")
        assert b" 200 " not in answer.split(b"\r\n")[0]
    huge_chunk = (
        b"POST /import?name=lies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n"
    )
    assert b" 200 " not in raw(shared, huge_chunk).split(b"\r\n")[0]
    assert not shared.files("lies").exists()
    assert works(shared)


def raw(node: Node, data: bytes | str) -> bytes:
    """What the node answers before it closes, or within a second."""
    with socket.create_connection(address(node), timeout=1) as sock:
        sock.sendall(data.encode() if isinstance(data, str) else data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := sock.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
        return answer


def test_heads_that_never_end(shared: Node) -> None:
    before = memory(shared)
    endless = b"GET /info HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"a" * 200_000
    assert raw(shared, endless).startswith((b"HTTP/1.1 4", b""))
    many = b"GET /info HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(20_000))
    assert b" 200 " not in raw(shared, many).split(b"\r\n")[0]
    assert raw(shared, os.urandom(100_000)).split(b"\r\n")[0].count(b" 200 ") == 0
    assert memory(shared) - before < 32 << 20
    assert works(shared)


def h2_frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def test_http2_heads_that_never_end(shared: Node) -> None:
    """CONTINUATION after CONTINUATION: held back by the HTTP/2 library until the last one has come."""
    before = memory(shared)
    sockets = []
    for _ in range(20):
        sock = socket.create_connection(address(shared), timeout=5)
        sockets.append(sock)
        flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b"") + h2_frame(1, 0, 1, b"\x00" * 1000)
        with suppress(OSError):
            sock.sendall(flood)
            for _ in range(64):
                sock.sendall(h2_frame(9, 0, 1, bytes(200_000)))
    grown = memory(shared) - before
    for sock in sockets:
        sock.close()
    assert grown < 64 << 20
    assert works(shared)


def test_slow_heads_keep_nobody_out(make_node: MakeNode) -> None:
    """More connections than the node may have files, each with half a head: applications and clients do not notice."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    node = make_node().start(prefix=["prlimit", "--nofile=256:256"])
    sockets = []
    try:
        for _ in range(min(600, soft - 100)):
            sock = socket.create_connection(address(node), timeout=5)
            sock.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            sockets.append(sock)
        assert works(node)
        for number in range(5):
            with closing(sqlite3.connect(node.path(f"db{number}"), isolation_level=None)) as db:
                db.execute("CREATE TABLE t (x)")
    finally:
        for sock in sockets:
            sock.close()


# ------------------------------------------------------------------------------------------------ a hostile primary


class HostilePrimary:
    """Answers every request for a stream with the same bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.served = 0
        self._socket = socket.create_server(("127.0.0.1", free_port()))
        self.name = "hostile"
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            with sock, suppress(OSError):
                self._answer(sock)

    def _answer(self, sock: socket.socket) -> None:
        sock.settimeout(5)
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.sendall(b"%x\r\n" % len(self.content) + self.content + b"\r\n0\r\n\r\n")
        self.served += 1
        try:
            while sock.recv(65536):
                pass
        except OSError:
            pass

    def close(self) -> None:
        self._socket.close()


@contextmanager
def hostile(make_node: MakeNode, content: bytes) -> Iterator[Node]:
    primary = HostilePrimary(content)
    try:
        replica = make_node("replica", primary=primary)
        replica.spawn()
        wait_for(lambda: primary.served > 1 or ("existing primary" in replica.log() and primary.served), "a request")
        yield replica
    finally:
        primary.close()


def snapshot(txid: int = 1, timestamp: int = 0, pages: int = 1) -> bytes:
    """A whole database of zeros with SQLite's magic."""
    first = b"SQLite format 3\0" + bytes([16, 0, 1, 1, 0, 64, 32, 32]) + bytes(4096 - 24)
    content = [(1, first)] + [(pgno, bytes(4096)) for pgno in range(2, pages + 1)]
    post = ltx.database_checksum(ltx.page_checksum(pgno, data) for pgno, data in content)
    head = ltx.Header(4096, pages, 1, txid, 0, timestamp, 0, node_id=5)
    return ltx.encode(head, content, post)


def checksum_of(data: bytes) -> int:
    return ltx.Trailer.decode(data[-16:]).post_apply


def growing(before: bytes) -> bytes:
    """A transaction of one page that makes the database 2^32 - 1 pages long."""
    last = (1 << 32) - 1
    page = bytes(4096)
    pre = checksum_of(before)
    post = pre ^ ltx.page_checksum(last, page) | ltx.CHECKSUM_FLAG
    return ltx.encode(ltx.Header(4096, last, 2, 2, 0, 0, pre, node_id=5), [(last, page)], post)


READY = frames.READY + frames.heartbeat(1_700_000_000_000)


def test_names_in_a_stream(make_node: MakeNode, tmp_path: Path) -> None:
    bad = ["../evil", "/tmp/evil", "a/b", "nul\0", "..", ".", "evil-wal", "evil-journal", ".primary", "x" * 255]
    content = b"".join(frames.ltx(name, snapshot()) + frames.hwm(5, name) + frames.drop_db(name) for name in bad)
    content += frames.ltx("good", snapshot()) + READY
    with hostile(make_node, content) as replica:
        wait_for(lambda: (replica.files("good") / "ltx").exists() and replica.pos("good").txid == 1, "the good one")
        assert sorted(path.name for path in (replica.data / "dbs").iterdir()) == ["good"]
        assert not Path("/tmp/evil").exists()
        assert not (tmp_path / "evil").exists()


def test_a_transaction_that_claims_to_be_huge(make_node: MakeNode) -> None:
    first = snapshot()
    content = frames.ltx("db", first) + frames.ltx("db", growing(first)) + READY
    with hostile(make_node, content) as replica:
        wait_for(lambda: "makes the database 4294967295 pages long" in replica.log(), "refusal")
        assert replica.pos("db").txid == 1
        assert memory(replica) < 300 << 20


@pytest.mark.parametrize("timestamp", [-1, 1 << 62, -(1 << 63), 253_402_300_800_000])
def test_times_that_nobody_can_show(make_node: MakeNode, timestamp: int) -> None:
    content = frames.ltx("db", snapshot()) + frames.ltx("db2", snapshot(timestamp=timestamp)) + READY
    with hostile(make_node, content) as replica:
        wait_for(lambda: "since the epoch" in replica.log(), "refusal")
        assert os.stat(replica.mount / ".lag").st_size == 11
        assert replica.pos("db").txid == 1


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">IQI", 1, 0, 0xFFFFFFFF) + bytes(1000),
        struct.pack(">IQI", 1, 0, 0) + bytes(1000),
        struct.pack(">II", 5, 0x7FFFFFFF) + bytes(1000),
        struct.pack(">I", 0xDEADBEEF),
        frames.ltx("db", b"LTX1" + bytes(96)),
        frames.ltx("db", os.urandom(200_000)),
        frames.heartbeat(-(1 << 63)),
        frames.heartbeat((1 << 63) - 1),
    ],
)
def test_frames_that_are_none(make_node: MakeNode, content: bytes) -> None:
    with hostile(make_node, content) as replica:
        wait_for(lambda: "disconnected from primary with error" in replica.log(), "refusal")
        assert memory(replica) < 300 << 20
        assert replica.running
