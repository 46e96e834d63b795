"""The API of a real node: a process with a mount, its store and databases that are in use."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from litefs.http.address import bind

from .server import wait_until
from .test_transfer import NAMES, make_image

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no FUSE here")


class Node:
    """``litefs mount`` with a static lease."""

    def __init__(self, folder: Path) -> None:
        self.mnt, self.data = folder / "mnt", folder / "data"
        self.mnt.mkdir()
        with bind("127.0.0.1:0") as listener:
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = {
            "fuse": {"dir": str(self.mnt)},
            "data": {"dir": str(self.data)},
            "http": {"addr": f"127.0.0.1:{self.port}"},
            "lease": {"type": "static", "candidate": True, "hostname": "n1", "advertise-url": self.url},
        }
        (folder / "litefs.yml").write_text(json.dumps(config))  # JSON is YAML
        start = "import sys; from litefs.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", start, "mount", "-config", str(folder / "litefs.yml")]
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        wait_until(self._is_ready, 30)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def client(self, http2: bool = False) -> httpx.Client:
        return httpx.Client(base_url=self.url, http1=not http2, http2=http2, timeout=60, trust_env=False)

    def connect(self, name: str) -> sqlite3.Connection:
        return sqlite3.connect(self.mnt / name, timeout=30, isolation_level=None, check_same_thread=False)

    def peak_memory(self) -> int:
        """Highest resident size so far, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(30) == 0, self.log.read_text()
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("node"))
    yield made
    made.stop()


def rows(node: Node, name: str) -> int:
    with closing(node.connect(name)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        return int(db.execute("select count(*) from t").fetchone()[0])


@pytest.mark.parametrize("name", NAMES)
def test_import_and_export_under_any_name(name: str, node: Node, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image.db")
    with node.client() as http:
        assert http.post("/import", params={"name": name}, content=image).status_code == 200
        exported = http.get("/export", params={"name": name}).content
    assert len(exported) == len(image)
    assert exported[4096:] == image[4096:]
    assert name in os.listdir(node.mnt)
    assert rows(node, name) == 50


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_import_over_a_database_in_use(mode: str, node: Node, tmp_path: Path) -> None:
    """Another page size, readers and a cached schema: each connection sees the new content with its next statement."""
    name = f"{mode}.live"
    make_image(tmp_path / "old.db", mode=mode)
    new = make_image(tmp_path / "new.db", rows=7, mode=mode, page_size=1024)
    with node.client() as http:
        assert http.post(f"/import?name={name}", content=(tmp_path / "old.db").read_bytes()).status_code == 200
        with closing(node.connect(name)) as reader, closing(node.connect(name)) as writer:
            assert reader.execute("select count(*) from t").fetchone() == (50,)
            writer.execute("insert into t values (1)")
            assert http.post(f"/import?name={name}", content=new).status_code == 200
            assert reader.execute("select count(*) from t").fetchone() == (7,)
            writer.execute("insert into t values (1)")
    assert rows(node, name) == 8


def test_a_refused_import_leaves_no_database(node: Node, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image.db")
    with node.client() as http:
        before = sorted(path.name for path in (node.data / "dbs").iterdir())
        for content in (b"", b"garbage" * 1000, image[:-1]):
            assert http.post("/import?name=bad", content=content).status_code == 500
        assert sorted(path.name for path in (node.data / "dbs").iterdir()) == before
        assert "bad" not in os.listdir(node.mnt)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_exports_are_consistent_while_writes_go_on(mode: str, node: Node, tmp_path: Path) -> None:
    name = f"{mode}.written"
    with closing(node.connect(name)) as db, node.client() as http:
        db.execute(f"pragma journal_mode={mode}")
        db.execute("pragma synchronous=off")
        db.execute("create table t (x)")
        db.execute("create table u (x)")
        stop = threading.Event()

        def write() -> None:
            n = 0
            while not stop.is_set():
                db.execute("begin")
                for table in "tu":  # both tables always hold the same
                    db.execute(f"insert into {table} values (?)", (n,))
                db.execute("commit")
                n += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(10):
                out = tmp_path / f"{number}.db"
                out.write_bytes(http.get(f"/export?name={name}").content)
                with closing(sqlite3.connect(out)) as copy:
                    assert copy.execute("pragma integrity_check").fetchone() == ("ok",)
                    t, u = (copy.execute(f"select count(*) from {table}").fetchone() for table in "tu")
                    assert t == u
        finally:
            stop.set()
            writer.join()


@pytest.mark.parametrize("http2", [False, True])
def test_events_of_commits_imports_and_drops(http2: bool, node: Node, tmp_path: Path) -> None:
    name = f"events-{http2}"
    image = make_image(tmp_path / "image.db")
    with node.client(http2) as http, node.client() as other, http.stream("GET", "/events") as response:
        lines = (json.loads(line) for line in response.iter_lines())
        assert next(lines) == {"type": "init", "data": {"isPrimary": True}}
        other.post(f"/import?name={name}", content=image)
        with closing(node.connect(name)) as db:
            db.execute("insert into t values (1)")
        os.unlink(node.mnt / name)
        mine = (event for event in lines if event.get("db") == name)
        events = [next(mine) for _ in range(3)]
        pos = (node.mnt / f"{name}-pos").read_text().strip()
    assert [event["type"] for event in events] == ["tx"] * 3
    data = [event["data"] for event in events]
    assert [each["txID"] for each in data] == [f"{txid:016x}" for txid in (1, 2, 3)]
    assert (data[0]["pageSize"], data[0]["commit"]) == (4096, len(image) // 4096)
    assert data[2]["commit"] == 0
    assert f"{data[2]['txID']}/{data[2]['postApplyChecksum']}" == pos


def test_a_dropped_database_is_not_exported(node: Node, tmp_path: Path) -> None:
    with node.client() as http:
        http.post("/import?name=dropped", content=make_image(tmp_path / "image.db"))
        os.unlink(node.mnt / "dropped")
        assert http.get("/export?name=dropped").status_code == 404


def test_metrics_and_variables(node: Node) -> None:
    with closing(node.connect("counted")) as db, node.client() as http:
        db.execute("pragma journal_mode=wal")
        db.execute("create table t (x)")
        text = http.get("/metrics").text
        variables = http.get("/debug/vars").json()["store"]["dbs"]["counted"]
    txid, checksum = (node.mnt / "counted-pos").read_text().strip().split("/")
    assert (variables["txid"], variables["checksum"]) == (txid, checksum)
    assert f'litefs_db_commit_count{{db="counted"}} {float(int(txid, 16))}\n' in text
    assert "litefs_is_primary 1.0\n" in text


def test_the_stop_waits_for_no_stream(tmp_path: Path) -> None:
    node = Node(tmp_path)
    with node.client() as http, http.stream("GET", "/events") as response:
        lines = response.iter_lines()
        next(lines)
        node.stop()
        assert not [line for line in lines if "primaryChange" not in line]


@pytest.mark.parametrize("http2", [False, True])
def test_memory_stays_flat(http2: bool, node: Node, tmp_path: Path) -> None:
    image = make_image(tmp_path / "image.db", rows=250_000)
    assert len(image) > 120 << 20
    with node.client(http2) as http:
        pieces = (image[at : at + (1 << 20)] for at in range(0, len(image), 1 << 20))
        assert http.post("/import?name=big", content=pieces).status_code == 200
        with http.stream("GET", "/export?name=big") as response:
            assert sum(len(piece) for piece in response.iter_raw()) == len(image)
    assert node.peak_memory() < 160 << 10  # KiB
