"""Files that come into the mount by other means than SQLite's."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from litefs.ltx import EMPTY, Pos
from tests.support.nodes import Node
from tests.support.waiting import wait_for

from .application import check, connect, fill, make_database, rows

Opened = Callable[..., sqlite3.Connection]
pytestmark = pytest.mark.slow


def copy_with_cp(source: Path, target: str) -> None:
    subprocess.run(["cp", str(source), target], check=True)


def copy_with_dd(source: Path, target: str) -> None:
    subprocess.run(["dd", f"if={source}", f"of={target}", "bs=777", "status=none"], check=True)


def copy_read_write(source: Path, target: str) -> None:
    with open(target, "wb+") as file:
        file.write(source.read_bytes())


COPIES = [copy_with_cp, copy_with_dd, copy_read_write, shutil.copyfile]


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: copy.__name__)
def test_a_copied_database_is_imported(
    node: Node, tmp_path: Path, opened: Opened, copy: Callable[[Path, str], object]
) -> None:
    make_database(tmp_path / "source")
    copy(tmp_path / "source", node.path("db"))
    assert check(node).txid == 1
    database = opened(node.path("db"))
    assert rows(database) == rows(opened(tmp_path / "source"))
    fill(database, 1)
    assert check(node).txid == 2


@pytest.mark.parametrize("page_size", [512, 65536])
def test_page_sizes(node: Node, tmp_path: Path, opened: Opened, page_size: int) -> None:
    make_database(tmp_path / "source", page_size=page_size)
    copy_with_cp(tmp_path / "source", node.path("db"))
    assert check(node).txid == 1
    fill(opened(node.path("db"), journal="wal"), 1)
    check(node)


def test_a_large_one(node: Node, tmp_path: Path, opened: Opened) -> None:
    make_database(tmp_path / "source", count=5000)
    copy_with_cp(tmp_path / "source", node.path("db"))
    database = opened(node.path("db"))
    assert node.pos("db").txid == 1  # whoever comes next waits
    fill(database, 1)
    check(node)


def test_a_database_with_its_wal(node: Node, tmp_path: Path, opened: Opened) -> None:
    source = opened(tmp_path / "source", journal="wal")
    fill(source, 20)
    fill(source, 20)
    copy_with_cp(tmp_path / "source", node.path("db"))
    copy_with_cp(tmp_path / "source-wal", node.path("db-wal"))
    check(node)
    database = opened(node.path("db"))
    assert rows(database) == rows(source)
    fill(database, 1)
    check(node)


def test_the_wal_may_come_first(node: Node, tmp_path: Path, opened: Opened) -> None:
    source = opened(tmp_path / "source", journal="wal")
    fill(source, 20)
    source.execute("PRAGMA wal_checkpoint")
    fill(source, 1)
    with open(node.path("db"), "wb"):
        pass
    copy_with_cp(tmp_path / "source-wal", node.path("db-wal"))
    copy_with_cp(tmp_path / "source", node.path("db"))
    check(node)
    assert rows(opened(node.path("db"))) == rows(source)
    check(node)


def test_it_survives_a_restart(node: Node, tmp_path: Path, opened: Opened) -> None:
    make_database(tmp_path / "source")
    copy_with_cp(tmp_path / "source", node.path("db"))
    pos = check(node)
    node.stop()
    node.start()
    assert check(node) == pos
    assert rows(opened(node.path("db"))) == rows(opened(tmp_path / "source"))


def test_a_copy_onto_a_database_is_refused(node: Node, tmp_path: Path, opened: Opened) -> None:
    node.expected.append("refused a write without a rollback journal")
    make_database(tmp_path / "source")
    database = opened(node.path("db"))
    fill(database, 10)
    before, pos = rows(database), check(node)
    with pytest.raises(OSError, match="Input/output error"):
        copy_read_write(tmp_path / "source", node.path("db"))
    with open(node.path("db"), "rb+", buffering=0) as file, pytest.raises(OSError, match="Input/output error"):
        file.write(b"x" * 4096)
    assert "use `litefs import`" in node.log()
    assert rows(database) == before
    fill(database, 1)
    assert check(node).txid == pos.txid + 1


def test_a_copy_where_one_was_deleted(node: Node, tmp_path: Path, opened: Opened) -> None:
    make_database(tmp_path / "source")
    fill(opened(node.path("db")), 10)
    os.unlink(node.path("db"))
    assert node.pos("db") == Pos(2, EMPTY)
    copy_with_cp(tmp_path / "source", node.path("db"))
    assert check(node).txid == 3


def test_part_of_a_database_stays_local(node: Node, tmp_path: Path) -> None:
    content = make_database(tmp_path / "source")
    with open(node.path("db"), "wb") as file:
        file.write(content[:-100])
    wait_for(lambda: "only a part of a database" in node.log(), "warning")
    assert os.listdir(node.mount) == [".lag", "db"]
    with open(node.path("db"), "ab") as file:
        file.write(content[-100:])
    assert check(node).txid == 1


def test_plain_files(node: Node) -> None:
    path = node.path("notes.txt")
    with open(path, "w") as file:
        file.write("one\n")
    with open(path, "a") as file:
        file.write("two\n")
    assert Path(path).read_text() == "one\ntwo\n"
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"far")
        file.truncate(5002)
    assert Path(path).read_bytes() == b"one\ntwo\n".ljust(5000, b"\0") + b"fa"
    os.truncate(path, 3)
    assert Path(path).read_text() == "one"
    for text in ("something long", "short"):
        with open(path, "w") as file:
            file.write(text)
        assert Path(path).read_text() == text
    assert os.listdir(node.mount) == [".lag", "notes.txt"]
    os.unlink(path)
    assert os.listdir(node.mount) == [".lag"]
    connection = connect(path)
    fill(connection, 3)
    connection.close()
    assert check(node, "notes.txt").txid == 1


def test_the_position_file_goes_with_its_database(node: Node, opened: Opened) -> None:
    """Those who clean up delete whatever they have listed before."""
    fill(opened(node.path("db")), 3)
    with pytest.raises(PermissionError):
        os.unlink(node.path("db-pos"))
    os.unlink(node.path("db"))
    with pytest.raises(FileNotFoundError):
        os.unlink(node.path("db-pos"))
    assert node.pos("db") == Pos(2, EMPTY)
