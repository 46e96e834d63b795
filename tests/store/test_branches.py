"""Branches: what is kept when a snapshot replaces a database, and what can be made of it."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from litefs import cli, ltx
from litefs.ltx import Pos
from litefs.store import branches, branchfile, nodeids
from litefs.store.branches import LIMITS, Branch, Incomplete, NoSuchBranch, Reason
from litefs.store.branchfile import BranchDamaged
from litefs.store.keeping import Keeping
from litefs.store.store import Store
from tests.support import chain
from tests.support.history import History, fill
from tests.support.nodes import Node
from tests.support.waiting import wait_for

from .test_recovery import Case


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def keep(data: Path, history: History, *, files: range, base: int = 0, reason: str = "diverged") -> Branch:
    """A branch of the history's LTX files, with a copy of the database as of transaction `base`."""
    branch = Branch(
        database="app.db",
        reason=reason,
        time=branches.now(),
        tip=str(history.pos),
        page_size=4096,
        pages=len(history.image) // 4096,
        base=str(position(history, base)) if base else "",
    )
    branch = branches.begin(data, branch)
    if base:
        branch.copy.write_bytes(history.images[base])
    branch = branches.publish(branch, files.start, history.pos.txid)
    for txid in files:
        name = ltx.filename(txid, txid)
        os.link(history.directory / "ltx" / name, branch.path / name)
    return branch


def position(history: History, txid: int) -> Pos:
    path = history.directory / "ltx" / ltx.filename(txid, txid)
    with open(path, "rb") as file:
        return Pos(txid, ltx.read_info(file)[1].post_apply)


@pytest.fixture
def history(case: Case) -> History:
    scratch = case.scratch("delete")
    fill(scratch)
    case.history.commit(scratch.image)
    for n in range(4):
        scratch(f"UPDATE t SET x = randomblob(200) WHERE id / 10 = {n}")
        case.history.commit(scratch.image)
    scratch("DELETE FROM t WHERE id > 5")
    scratch("VACUUM")
    case.history.commit(scratch.image)
    return case.history


def exported(branch: Branch, path: Path) -> bytes:
    with open(path, "wb+") as file:
        branchfile.write(branch, file)
    return path.read_bytes()


def test_from_all_files_or_from_a_copy(case: Case, history: History, tmp_path: Path) -> None:
    tip = history.pos.txid
    for base, first in ((0, 1), (3, 4), (tip, 2)):
        branch = keep(case.data, history, files=range(first, tip + 1), base=base)
        assert branches.is_exportable(branch)
        assert exported(branch, tmp_path / "out.db") == history.image
        branches.discard(branch)
    assert not (case.data / "branches" / "app.db").exists()


def test_what_is_missing_or_damaged_is_said(case: Case, history: History, tmp_path: Path) -> None:
    tip = history.pos.txid
    with pytest.raises(Incomplete, match="no copy of the database"):
        exported(keep(case.data, history, files=range(3, tip + 1)), tmp_path / "out.db")
    branch = keep(case.data, history, files=range(3, tip), base=2)
    with pytest.raises(Incomplete):
        branch.chain()
    branch = keep(case.data, history, files=range(4, tip + 1), base=tip)
    branch.copy.write_bytes(branch.copy.read_bytes()[:-4096] + bytes(4096))
    with pytest.raises(BranchDamaged, match="should lead to"):
        exported(branch, tmp_path / "out.db")
    branch = keep(case.data, history, files=range(4, tip + 1), base=3)
    path = branch.path / ltx.filename(4, 4)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BranchDamaged):
        exported(branch, tmp_path / "out.db")


def test_the_oldest_go(case: Case, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for reason in Reason:
        for number in range(LIMITS[reason] + 2):
            monkeypatch.setattr(branches, "now", lambda number=number: f"2026-01-01T00:00:{number:02}.000Z")
            made.append(keep(case.data, history, files=range(6, 7), reason=reason))
    left = branches.branches(case.data)
    for reason in Reason:
        mine = [branch.name for branch in made if branch.reason == reason]
        assert [branch.name for branch in left if branch.reason == reason] == mine[2:]


def test_names(case: Case, history: History) -> None:
    first, second = (keep(case.data, history, files=range(6, 7)) for _ in range(2))
    assert first.path != second.path  # even within a millisecond
    assert branches.find(case.data, first.name).path == first.path
    assert branches.find(case.data, second.id).path == second.path
    with pytest.raises(NoSuchBranch, match="several"):
        branches.find(case.data, "app.db/")
    for name in ("../../dbs/app.db", "/etc/passwd", "", "other.db/x"):
        with pytest.raises(NoSuchBranch):
            branches.find(case.data, name)


def test_what_is_no_branch_is_passed_over(case: Case, history: History) -> None:
    good = keep(case.data, history, files=range(6, 7))
    (case.data / "branches" / "stray").write_text("")
    (case.data / "branches" / "app.db" / "empty").mkdir()
    for number, text in enumerate(["", "[]", "{}", '{"database": "../x", "reason": "", "time": ""}']):
        folder = case.data / "branches" / "app.db" / f"bad{number}"
        folder.mkdir()
        (folder / "branch.json").write_text(text)
    branches.begin(case.data, good)  # a crash left it
    assert [branch.name for branch in branches.branches(case.data)] == [good.name]
    branches.sweep(case.data)
    assert not list((case.data / "branches").glob("*/.new-*"))


def test_node_ids(tmp_path: Path) -> None:
    assert nodeids.known(tmp_path) == set()
    for node_id in range(1, nodeids.KEPT + 10):
        nodeids.remember(tmp_path, node_id)
    assert nodeids.known(tmp_path) == set(range(10, nodeids.KEPT + 10))
    (tmp_path / "nodeids").write_bytes(b"\xff\xfe nonsense 000000000000000a\n")
    assert nodeids.known(tmp_path) == {10}


def test_node_id_that_cannot_be_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start must know the transactions of this process for its own."""
    assert nodeids.remember(tmp_path, 5) == 5
    assert nodeids.remember(tmp_path, 6) == 6

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert nodeids.remember(tmp_path, 7) == 6
        assert nodeids.known(tmp_path) == {5, 6}
        (tmp_path / "nodeids").unlink()
        with pytest.raises(OSError, match="No space"):
            nodeids.remember(tmp_path, 7)


# ----------------------------------------------------------------------------------------------------------- keeping


@pytest.mark.parametrize("undo", [False, True])
def test_a_crash_while_it_is_kept(case: Case, history: History, tmp_path: Path, undo: bool) -> None:
    """Everything is in the branch, the snapshot not in place: the database is found where it was, and can go on."""
    history.place(history.image)
    pos = history.pos

    async def main() -> None:
        store = Store(case.data, tmp_path / "mnt")
        db = await store.database("app.db")
        head = ltx.Header(4096, 1, 1, 99, 0, 0, 0, node_id=7)
        incoming = SimpleNamespace(pos=Pos(99, 1 << 63 | 5), local=False, header=head, checksums=[], path=Path("x"))
        keeping = Keeping(db, cast(Any, incoming))
        await keeping.prepare()
        await keeping.complete()
        if undo:
            keeping.undo()
        await keeping.close()

    trio.run(main)
    assert case.recover().pos == pos
    assert (case.files / "database").read_bytes() == history.image
    if undo:
        assert branches.branches(case.data) == []
        assert chain.replay(case.files).pos == pos
    else:
        (branch,) = branches.branches(case.data)
        assert (branch.reason, branch.tip, branch.changed_pages) == ("superseded", str(pos), branch.pages)
        assert exported(branch, tmp_path / "out.db") == history.image


@pytest.mark.parametrize("same", [False, True])
def test_a_snapshot_over_one_of_the_same_name(case: Case, history: History, tmp_path: Path, same: bool) -> None:
    """Of the same position nothing is lost, and nothing kept; the new file stays in either case."""
    history.place(history.image)
    tip = history.pos

    async def main() -> None:
        store = Store(case.data, tmp_path / "mnt")
        db = await store.database("app.db")
        old = db.ltx_dir.file(1, tip.txid)
        with open(old, "wb+") as out, ExitStack() as stack:
            files = [stack.enter_context(open(db.ltx_dir.file(*item), "rb")) for item in db.ltx_dir.ranges()]
            ltx.compact(files, out, compress=False)
        db.ltx_dir.load()
        assert db.ltx_dir.newest() == (1, tip.txid)
        pos = tip if same else Pos(tip.txid, tip.checksum ^ 1)
        head = ltx.Header(4096, 1, 1, tip.txid, 0, 0, 0, node_id=7)
        incoming = SimpleNamespace(pos=pos, local=False, header=head, checksums=[], path=tmp_path / "new")
        incoming.path.write_bytes(b"new")
        keeping = Keeping(db, cast(Any, incoming))
        await keeping.prepare()
        await keeping.complete()
        incoming.path = incoming.path.rename(old)
        keeping.done()
        await keeping.close()
        assert [path.read_bytes() for path in db.ltx_dir.path.iterdir()] == [b"new"]
        assert len(db.ltx_dir) == 0

    trio.run(main)
    assert [branch.reason for branch in branches.branches(case.data)] == ([] if same else ["diverged"])


# ------------------------------------------------------------------------------------------------------ command line


def test_commands(case: Case, history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["-data-dir", str(case.data)]
    assert cli.main(["branches", "list", *where]) == 0
    assert capsys.readouterr().out == "no branches\n"
    tip = history.pos.txid
    keep(case.data, history, files=range(3, tip + 1))
    branch = keep(case.data, history, files=range(3, tip + 1), base=2)
    assert cli.main(["branches", "list", *where]) == 0
    header, no, yes = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "REASON", "TRANSACTIONS", "LAST", "PAGES", "SIZE", "EXPORT"]
    assert no.endswith("no")
    assert yes.startswith(branch.name)
    assert yes.endswith("yes")
    assert f"3-{tip:x}" in yes
    assert cli.main(["branches", "list", "-json", *where]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [item["exportable"] for item in listed] == [False, True]
    assert listed[1]["tip"] == str(history.pos)
    out = tmp_path / "out.db"
    assert cli.main(["branches", "export", "-o", str(out), *where, branch.name]) == 0
    assert out.read_bytes() == history.image
    assert str(history.pos) in capsys.readouterr().out
    out.unlink()
    assert cli.main(["branches", "export", "-o", str(out), *where, listed[0]["name"]]) == 1
    assert "no copy of the database" in capsys.readouterr().err
    assert not out.exists()
    assert cli.main(["branches", "discard", *where, branch.id]) == 0
    assert cli.main(["branches", "discard", *where, branch.id]) == 1
    assert "no branch" in capsys.readouterr().err
    assert cli.main(["branches", "list", "-data-dir", str(tmp_path / "none")]) == 2


# --------------------------------------------------------------------------------------------------- real divergence


def write(node: Node, *statements: str) -> None:
    with closing(sqlite3.connect(node.path("db"), timeout=10, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def rows(path: Path | str) -> list[str]:
    with closing(sqlite3.connect(path, timeout=10)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [text for (text,) in db.execute("SELECT x FROM t ORDER BY rowid")]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize(("more", "reason"), [(0, "diverged"), (5, "unconfirmed")])
def test_a_lost_tail_is_kept(
    make_node: Callable[..., Node],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mode: str,
    more: int,
    reason: str,
) -> None:
    """The old primary has two transactions that nobody received; the new one has none, or more, in their place."""
    retention = {"data": {"retention": "1s", "retention-monitor-interval": "100ms"}}
    old, new = make_node("old", settings=retention), make_node("new", settings=retention)
    old.start()
    write(old, f"PRAGMA journal_mode={mode}", "CREATE TABLE t (x)", "INSERT INTO t VALUES ('both')")
    new._primary = old
    new.configure(retention)
    new.start()
    new.wait_pos("db", old.pos("db"))
    new.stop()
    write(old, "INSERT INTO t VALUES ('lost 1')", "INSERT INTO t SELECT 'lost 2'")
    tip = old.pos("db")
    wait_for(lambda: len(list((old.files("db") / "ltx").iterdir())) == 1, "retention on the old primary")
    old.kill()

    new._primary = None
    new.configure(retention)
    new.start()
    write(new, *(["INSERT INTO t VALUES ('won')"] * more))
    old._primary = new
    old.configure(retention)
    old.start()
    old.wait_pos("db", new.pos("db"))
    assert rows(old.path("db")) == ["both"] + ["won"] * more

    (branch,) = branches.branches(old.data)
    assert (branch.reason, branch.tip, branch.replaced_by) == (reason, str(tip), str(new.pos("db")))
    assert branch.tip_time
    out = tmp_path / "out.db"
    assert cli.main(["branches", "export", "-config", str(old.configuration), "-o", str(out), branch.name]) == 0
    assert f"in {branch.changed_pages} of {branch.pages} pages" in capsys.readouterr().out
    assert branch.changed_pages > 0
    assert rows(out) == ["both", "lost 1", "lost 2"]
    assert branch.name in old.log()
    assert branches.branches(new.data) == []
    old.stop()
    old.start()  # goes on from there
    write(new, "INSERT INTO t VALUES ('later')")
    old.wait_pos("db", new.pos("db"))
    assert len(branches.branches(old.data)) == 1
