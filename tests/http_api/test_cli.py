"""``litefs import`` and ``litefs export`` against a served node."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from litefs import cli
from litefs.cli.transfers import duration

from .fakes import FakeNode, FakeSnapshot
from .server import Server
from .test_transfer import make_image


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_image(tmp_path / "image.db", rows=3000)
    return tmp_path / "image.db"


def test_round_trip(
    node: FakeNode, server: Server, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["import", "-name", "a b", "-url", server.url, str(source)]) == 0
    assert re.fullmatch(r'Import of database "a b" in \d+\.\d+ms\n', capsys.readouterr().out)
    assert node.store.databases["a b"].image == source.read_bytes()
    out = tmp_path / "out.db"
    assert cli.main(["export", "-name", "a b", f"--url={server.url}/ignored", str(out)]) == 0
    assert re.fullmatch(r'Export of database "a b" in \d+\.\d+ms\n', capsys.readouterr().out)
    assert out.read_bytes() == source.read_bytes()
    assert not (tmp_path / "out.db.tmp").exists()


def test_export_replaces_a_database_and_its_side_files(
    node: FakeNode, server: Server, source: Path, tmp_path: Path
) -> None:
    node.add("db", source.read_bytes())
    old = tmp_path / "old.db"
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{old}{suffix}").write_bytes(b"old")
    assert cli.main(["export", "-name", "db", "-url", server.url, str(old)]) == 0
    assert sorted(path.name for path in tmp_path.glob("old*")) == ["old.db"]
    with sqlite3.connect(old) as db:
        assert db.execute("select count(*) from t").fetchone() == (3000,)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("old*")}


def test_a_failed_export_destroys_nothing(
    node: FakeNode, server: Server, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(FakeSnapshot):
        def pages(self, batch: int = 256) -> Iterator[tuple[int, bytes]]:
            yield 1, self.image[: self.page_size]
            raise OSError(5, "Input/output error")

    node.add("broken", source.read_bytes()).make_snapshot = Broken
    node.add("garbage", b"x" * 8192)
    old = tmp_path / "old.db"
    for suffix in ("", "-wal"):
        Path(f"{old}{suffix}").write_bytes(b"old")
    before = files(tmp_path)
    for name, text in [
        ("none", 'ERROR: database not found: "none"'),
        ("broken", f"ERROR: the exchange with {server.url} broke off"),
        ("garbage", "ERROR: the node sent an incomplete database: read database header"),
    ]:
        assert cli.main(["export", "-name", name, "-url", server.url, str(old)]) == 1
        assert capsys.readouterr().err.startswith(text)
        assert files(tmp_path) == before


def test_refused_imports(
    node: FakeNode, server: Server, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "garbage").write_bytes(b"garbage" * 100)
    assert cli.main(["import", "-name", "db", "-url", server.url, str(tmp_path / "garbage")]) == 1
    assert "invalid response: code=500: read database header: invalid database header" in capsys.readouterr().err
    node.become_replica()
    assert cli.main(["import", "-name", "db", "-url", server.url, str(source)]) == 1
    assert capsys.readouterr().err == "ERROR: invalid response: code=503: lease expired\n"
    assert node.store.databases == {}


def test_missing_files(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", "-name", "db", "-url", server.url, str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert cli.main(["export", "-name", "db", "-url", server.url, str(tmp_path / "none" / "out")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["import", "export"])
@pytest.mark.parametrize("arguments", [[], ["-name", "db"], ["file"]])
def test_usage(command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, *arguments]) == 2
    assert f"Usage: litefs {command}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["import", "export"])
def test_nobody_there(command: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "-name", "db", "-url", "http://127.0.0.1:1", str(source)]) == 1
    assert "refused" in capsys.readouterr().err


def test_an_import_warns_of_a_wal_that_is_left_out(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "live.db"
    make_image(path, mode="wal")
    db = sqlite3.connect(path)
    db.execute("insert into t values (1)")
    db.commit()
    assert cli.main(["import", "-name", "db", "-url", server.url, str(path)]) == 0
    assert f"WARNING: transactions in {path}-wal are not imported" in capsys.readouterr().err
    db.close()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123456, "12.346ms"), (1.5, "1.500s"), (59.9, "59.900s"), (125.25, "2m5.2s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
