"""The vault in a real S3 server: conformance, its death and its errors."""

from __future__ import annotations

import io
import itertools
import shutil
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import litefs_backup_s3 as plugin
import pytest
from litefs_backup_s3.objects import S3Objects, open_s3
from litefs_backup_store.client import VaultClient
from litefs_backup_store.objects import ObjectChanged, ObjectMissing, StorageError
from litefs_backup_store.vault import Vault

from litefs import ltx
from litefs.errors import ConfigError
from litefs.ltx import Pos
from litefs.testing import BackupConformance, History, backup_config
from tests.support.faults import Fault, FaultyFront, times
from tests.support.nodes import Node, need_command
from tests.support.s3 import BUCKET, SECRET, S3Server, running_s3
from tests.support.waiting import wait_for

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests; each has a prefix of its own."""
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def url() -> str:
    return f"s3://{BUCKET}/test{next(_numbers)}"


@pytest.fixture
def objects(server: S3Server, url: str) -> S3Objects:
    return S3Objects(url, server.section())


class TestConformance(BackupConformance):
    fences = True
    long_history = 40

    @pytest.fixture(autouse=True)
    def _server(self, server: S3Server, url: str) -> None:
        self.server, self.url = server, url

    async def client(self) -> VaultClient:
        return VaultClient(Vault(S3Objects(self.url, self.server.section())))

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self.server.kill()
        yield
        self.server.start()


def test_objects(objects: S3Objects, tmp_path: Path) -> None:
    first = objects.replace("a/b", b"1", None)
    with pytest.raises(ObjectChanged):
        objects.replace("a/b", b"2", None)
    second = objects.replace("a/b", b"2", first)
    with pytest.raises(ObjectChanged):
        objects.replace("a/b", b"3", first)
    assert objects.get("a/b") == (b"2", second)
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 50_000)  # in several parts
    objects.upload("a/big", big)
    objects.copy("a/big", "a/copy")
    objects.download("a/copy", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()
    assert {item.key: item.size for item in objects.list("a/")} == {"a/b": 1, "a/big": 12_800_000, "a/copy": 12_800_000}
    assert [item.version for item in objects.list("a/") if item.key == "a/b"] == [second]
    objects.delete(["a/b", "a/big", "a/nothing"])
    assert [item.key for item in objects.list("a/")] == ["a/copy"]
    with pytest.raises(ObjectMissing):
        objects.get("a/b")
    with pytest.raises(ObjectMissing):
        objects.download("a/b", tmp_path / "b")


def append(vault: Vault, history: History, folder: Path, data: bytes) -> None:
    path = folder / "file.ltx"
    path.write_bytes(data)
    with open(path, "rb") as file:
        vault.append("app.db", path, *ltx.verify(file))


def test_the_server_dies_and_comes_back(server: S3Server, objects: S3Objects, tmp_path: Path) -> None:
    vault, history = Vault(objects), History()
    vault.claim()
    append(vault, history, tmp_path, history.commit({1: b"one"}))
    stored = history.pos
    file = history.commit({1: b"two"})
    server.kill()
    with pytest.raises(StorageError):
        append(vault, history, tmp_path, file)
    server.start()
    assert vault.positions() == {"app.db": stored}
    append(vault, history, tmp_path, file)
    output = io.BytesIO()
    header, trailer = vault.restore("app.db", output)
    assert Pos(header.max_txid, trailer.post_apply) == history.pos


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secret-access-key": "wrong-secret"}, "refuses: SignatureDoesNotMatch: .*the secret does not belong"),
        ({"access-key-id": "nobody"}, "refuses: .*the access key"),
        ({"region": "eu-west-9"}, "region"),
    ],
)
def test_refusals_are_clear_and_show_no_secret(server: S3Server, url: str, change: dict[str, str], words: str) -> None:
    section = server.section(**change)
    with pytest.raises(StorageError, match=words) as caught:
        Vault(S3Objects(url, section)).claim()
    assert section["secret-access-key"] not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    with pytest.raises(StorageError, match=r"s3://nowhere refuses: NoSuchBucket: .*make the bucket"):
        Vault(S3Objects("s3://nowhere", server.section())).claim()


@pytest.fixture
def front(server: S3Server) -> Iterator[FaultyFront]:
    with FaultyFront(server.port).running() as found:
        yield found


@pytest.fixture
def shaky(server: S3Server, front: FaultyFront, url: str) -> S3Objects:
    """Objects that are reached by way of the front."""
    return S3Objects(url, {**server.section(), "endpoint": front.url})


def trouble(status: int, code: str) -> Fault:
    return Fault(
        status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>In {code}'s words.</Message></Error>"
    )


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (503, "SlowDown", "tries again"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (400, "ExpiredToken", "have expired"),
        (403, "AccessDenied", "access key and its rights"),
        (301, "PermanentRedirect", "region"),
        (507, "InsufficientStorage", "In InsufficientStorage's words"),
        (500, "InternalError", "In InternalError's words"),
    ],
)
def test_what_a_server_in_trouble_says(
    front: FaultyFront, shaky: S3Objects, server: S3Server, tmp_path: Path, status: int, code: str, words: str
) -> None:
    """It is said in one line, nothing was stored, and the next try goes through."""
    vault, history = Vault(shaky), History()
    vault.claim()
    file = history.commit({1: b"one"})
    for method in ("GET", "PUT"):
        front.fault = times(1000, trouble(status, code), method=method)
        with pytest.raises(StorageError, match=words) as caught:
            append(vault, history, tmp_path, file)
        assert SECRET not in str(caught.value)
        assert len(str(caught.value)) < 400
        assert Vault(S3Objects(shaky.url, server.section())).positions() == {}
    front.fault = times(2, trouble(503, "SlowDown"))
    append(vault, history, tmp_path, file)
    assert vault.positions() == {"app.db": history.pos}


def test_answers_that_are_cut_off_or_lost(front: FaultyFront, shaky: S3Objects, tmp_path: Path) -> None:
    big, copy = tmp_path / "big", tmp_path / "copy"
    big.write_bytes(bytes(range(256)) * 50_000)
    front.fault = times(1, Fault(lose=True), method="PUT", part="big")
    shaky.upload("big", big)
    front.fault = times(1, Fault(cut=5000), method="GET", part="big")
    shaky.download("big", copy)
    assert copy.read_bytes() == big.read_bytes()
    front.fault = times(1000, Fault(cut=5000), method="GET", part="big")
    with pytest.raises(StorageError, match="body"):
        shaky.download("big", tmp_path / "none")
    front.fault = lambda method, path: None
    vault, history = Vault(shaky), History()
    front.fault = times(1, Fault(lose=True), method="PUT", part="epoch")
    vault.claim()
    front.fault = times(1, Fault(lose=True), method="PUT", part="heads/")
    append(vault, history, tmp_path, history.commit({1: b"one"}))
    append(vault, history, tmp_path, history.commit({1: b"two"}))
    assert vault.positions() == {"app.db": history.pos}
    assert len(vault.head("app.db", fresh=True).tail) == 2


def test_a_server_that_does_not_answer(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(StorageError, match=url):
        Vault(S3Objects(url, {"endpoint": f"http://127.0.0.1:{port}"})).claim()


def config(**backup: Any) -> Any:
    return backup_config(plugin, {"type": "s3", **backup})


def test_settings() -> None:
    found = open_s3(config(url="s3://b/p/", s3={"region": "eu-central-1"}))
    assert found.url == "s3://b/p"
    for bad in ("", "b/p", "http://b/p", "s3://"):
        with pytest.raises(ConfigError, match=r"backup\.url must name a bucket"):
            open_s3(config(url=bad))


def test_a_node_loses_everything_and_gets_it_back(server: S3Server, url: str, tmp_path: Path) -> None:
    need_command()
    settings = {"backup": {"type": "s3", "url": url, "s3": server.section()}}
    node = Node(tmp_path / "node", settings=settings)
    try:
        node.start()
        with closing(sqlite3.connect(node.path("app.db"), isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=wal")
            db.execute("CREATE TABLE t (x)")
            server.kill()
            for number in range(10):
                db.execute("INSERT INTO t VALUES (?)", (number,))
            server.start()
        vault = Vault(S3Objects(url, server.section()))
        pos = node.pos("app.db")
        wait_for(lambda: vault.head("app.db", fresh=True).pos == pos, "the backup", 40)
        node.kill()
        shutil.rmtree(node.data)
        node.start()
        assert node.pos("app.db") == pos
        with closing(sqlite3.connect(node.path("app.db"))) as db:
            assert db.execute("SELECT count(*) FROM t").fetchone() == (10,)
        assert SECRET not in node.log_file.read_text()
    finally:
        node.destroy()
