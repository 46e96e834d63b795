"""What start-up makes of the files that a crash, a broken disk or a user left behind."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from litefs import ltx
from litefs.ltx import EMPTY, Pos
from litefs.sqlite.journal import MAGIC, JournalHeader, record_checksum
from litefs.sqlite.wal import WAL_HEADER_SIZE, WalHeader
from litefs.store import branches, nodeids, pagetable
from litefs.store.branches import Branch
from litefs.store.database import Database
from litefs.store.pagetable import PageTable, Stamp
from litefs.store.publisher import State
from litefs.store.recovery import recover
from litefs.store.store import Store
from tests.support import chain
from tests.support.history import History, Scratch, fill

NAME = "app.db"


class Case:
    """A data directory with one database, and the model that it is made from."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.history = History(self.data / "dbs" / NAME)
        self._directory = directory

    @property
    def files(self) -> Path:
        return self.history.directory

    def scratch(self, mode: str = "wal", page_size: int = 4096, name: str = "scratch") -> Scratch:
        return Scratch(self._directory / name, mode, page_size)

    def save_table(self, image: bytes, pos: Pos, page_size: int = 4096) -> None:
        table = PageTable()
        commit = len(image) // page_size
        for pgno in range(1, commit + 1):
            table.set(pgno, ltx.page_checksum(pgno, image[(pgno - 1) * page_size : pgno * page_size]))
        pagetable.save(self.files / "checksums", Stamp(page_size, commit, pos), table.take_changes(commit, whole=True))

    def recover(self, name: str = NAME) -> State:
        store = Store(self.data, self._directory / "mnt")
        state, table, stamp = recover(Database(store, name))
        assert table.checksum(state.page_size, state.commit) == (state.pos.checksum if state.pos.txid else EMPTY)
        assert stamp.pos == (state.pos if state.commit else stamp.pos)
        return state

    def aside(self) -> list[Branch]:
        return branches.branches(self.data)

    def check(self, pos: Pos, image: bytes) -> None:
        """Recovery leads to this position and content, and a second one changes nothing."""
        for _ in range(2):
            state = self.recover()
            assert state.pos == pos
            assert not (self.files / "wal").exists()
            assert not (self.files / "journal").exists()
            assert ((self.files / "database").read_bytes() if image else b"") == image
            assert not list((self.files / "ltx").glob("*.tmp"))
            found = chain.replay(self.files)
            assert (found.pos, found.image) == (pos, image)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def in_wal(case: Case, transactions: int = 4) -> Scratch:
    """A database in WAL mode with all of its transactions in the WAL and in LTX files."""
    scratch = case.scratch()
    fill(scratch)
    case.history.commit(scratch.image)
    for n in range(transactions):
        scratch(f"UPDATE t SET x = randomblob(200) WHERE id % 7 = {n}")
        case.history.commit(scratch.image)
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
    return scratch


def on_disk(case: Case, transactions: int = 4) -> Scratch:
    """A database with a rollback journal, all of its transactions in LTX files."""
    scratch = case.scratch("delete")
    fill(scratch)
    case.history.commit(scratch.image)
    for n in range(transactions):
        scratch(f"UPDATE t SET x = randomblob(200) WHERE id / 10 = {n}")
        case.history.commit(scratch.image)
    case.history.place(scratch.image)
    return scratch


# ------------------------------------------------------------------------------------------------------ nothing wrong


@pytest.mark.parametrize("make", [in_wal, on_disk])
def test_as_it_should_be(case: Case, make: Callable[[Case], Scratch]) -> None:
    make(case)
    case.check(case.history.pos, case.history.image)
    assert case.aside() == []


def test_nothing_at_all(case: Case) -> None:
    assert case.recover().pos == Pos(0, 0)


def test_empty_database_file(case: Case) -> None:
    case.history.place(b"")
    assert case.recover().pos == Pos(0, 0)
    assert (case.files / "database").read_bytes() == b""


def test_only_part_of_the_wal_belongs_to_the_chain(case: Case) -> None:
    """Transactions at its beginning were copied to the database file, and their LTX files are gone since."""
    scratch = in_wal(case)
    scratch("PRAGMA wal_checkpoint(PASSIVE)")
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
    assert case.recover().pos == case.history.pos
    assert (case.files / "database").read_bytes() == case.history.image


# ----------------------------------------------------------------------------------------- the newest LTX file is bad


def interesting(size: int) -> list[int]:
    return sorted({0, 1, 50, 99, 100, 101, 104, 105, size // 2, size - 17, size - 16, size - 15, size - 1})


@pytest.mark.parametrize("make", [in_wal, on_disk])
def test_torn_newest_file(case: Case, make: Callable[[Case], Scratch]) -> None:
    make(case)
    pos, image = case.history.pos, case.history.image
    newest = case.files / "ltx" / ltx.filename(pos.txid, pos.txid)
    whole = newest.read_bytes()
    saved = case.data.with_name("saved")
    shutil.copytree(case.data, saved)
    for size in interesting(len(whole)):
        shutil.rmtree(case.data)
        shutil.copytree(saved, case.data)
        newest.write_bytes(whole[:size])
        case.check(pos, image)  # made anew from the database
        assert [branch.reason for branch in case.aside()] == ["torn"]
        assert (case.aside()[0].path / newest.name).read_bytes() == whole[:size]


def test_flipped_bits_in_the_newest_file(case: Case) -> None:
    in_wal(case)
    pos, image = case.history.pos, case.history.image
    newest = case.files / "ltx" / ltx.filename(pos.txid, pos.txid)
    whole = bytearray(newest.read_bytes())
    saved = case.data.with_name("saved")
    shutil.copytree(case.data, saved)
    for at in [0, 5, 17, 30, 101, 120, len(whole) // 2, len(whole) - 12, len(whole) - 1]:
        shutil.rmtree(case.data)
        shutil.copytree(saved, case.data)
        whole[at] ^= 0x10
        newest.write_bytes(whole)
        whole[at] ^= 0x10
        case.check(pos, image)
        assert len(case.aside()) == 1


def test_the_newest_file_names_other_transactions(case: Case) -> None:
    in_wal(case)
    pos, image = case.history.pos, case.history.image
    newest = case.files / "ltx" / ltx.filename(pos.txid, pos.txid)
    newest.rename(case.files / "ltx" / ltx.filename(pos.txid + 5, pos.txid + 5))
    case.check(pos, image)
    assert case.aside()[0].ranges() == [(pos.txid + 5, pos.txid + 5)]


def test_bad_newest_file_of_a_database_that_was_never_saved_elsewhere(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    scratch = case.scratch("delete")
    fill(scratch)
    path = case.history.commit(scratch.image)
    case.history.place(scratch.image)
    path.write_bytes(b"")
    case.check(case.history.pos, case.history.image)
    assert path.name in caplog.text


# ------------------------------------------------------------------------------------ the database is behind or ahead


@pytest.mark.parametrize("txid", [1, 2, 4])
def test_rolled_back_copy_of_the_database_file(case: Case, txid: int) -> None:
    on_disk(case)
    case.history.place(case.history.images[txid])
    case.check(case.history.pos, case.history.image)
    assert case.aside() == []


def test_lost_database_file(case: Case) -> None:
    on_disk(case)
    case.history.place(None)
    case.check(case.history.pos, case.history.image)


def test_lost_wal(case: Case) -> None:
    in_wal(case)
    (case.files / "wal").unlink()
    case.check(case.history.pos, case.history.image)


def test_wal_cut_anywhere(case: Case) -> None:
    scratch = in_wal(case)
    wal = scratch.side("wal")
    for size in (0, 10, 32, 40, 33 + 4096, len(wal) // 2, len(wal) - 4120, len(wal) - 1):
        case.history.place(scratch.path.read_bytes(), wal=wal[:size])
        case.check(case.history.pos, case.history.image)


def commit_in_wal(case: Case, scratch: Scratch, *texts: str) -> bytes:
    """Transactions whose LTX files name their place in the WAL, which is empty before; the WAL."""
    wal, start = b"", WAL_HEADER_SIZE
    for text in texts:
        scratch(text)
        wal = scratch.side("wal")
        header = WalHeader.parse(wal[:WAL_HEADER_SIZE])
        case.history.commit(scratch.image, wal=(start, len(wal) - start, header.salt1, header.salt2))
        start = len(wal)
    return wal


def test_a_wal_that_has_lost_its_end_and_files_of_an_unknown_node(case: Case) -> None:
    """By its salts the WAL is the one that the newest files name, whoever wrote them: it does not hold the position."""
    scratch = case.scratch()
    fill(scratch)
    nodeids.remember(case.data, 8)
    case.history.commit(scratch.image, wal=(WAL_HEADER_SIZE, 4120, 1, 2), node_id=8)
    scratch("PRAGMA wal_checkpoint(TRUNCATE)")
    database = scratch.path.read_bytes()
    wal = commit_in_wal(case, scratch, *(f"UPDATE t SET x = randomblob(200) WHERE id % 7 = {n}" for n in range(3)))
    assert nodeids.known(case.data) == {8}
    case.history.place(database, wal=wal[:-100])
    case.check(case.history.pos, case.history.image)


def test_files_of_another_node_and_a_wal_that_has_lost_its_end(case: Case) -> None:
    """What files up to the position have is nothing that came after it, though a checkpoint has copied it."""
    scratch = case.scratch()
    fill(scratch)
    case.history.commit(scratch.image)
    scratch("PRAGMA wal_checkpoint(TRUNCATE)")
    scratch("UPDATE t SET x = randomblob(200)")
    case.history.commit(scratch.image)
    scratch("UPDATE t SET x = randomblob(200) WHERE id < 60")
    case.history.commit(scratch.image)
    case.save_table(case.history.images[1], Pos(1, chain.checksum(case.history.images[1], 4096)))
    case.history.place(case.history.images[2], wal=scratch.side("wal")[:-100])
    case.check(case.history.pos, case.history.image)


def test_half_a_checkpoint_of_a_wal_that_has_lost_its_end(case: Case) -> None:
    """Earlier transactions in the WAL, of a smaller database, do not explain that its last pages are not there."""
    scratch = case.scratch()
    fill(scratch)
    case.history.commit(scratch.image)
    scratch("PRAGMA wal_checkpoint(TRUNCATE)")
    small = scratch.path.read_bytes()
    update, insert = "UPDATE t SET x = randomblob(200) WHERE id % 7 = 1", "INSERT INTO t (x) VALUES (randomblob(30000))"
    wal = commit_in_wal(case, scratch, update, insert)
    assert len(case.history.image) > len(small)
    case.save_table(case.history.images[1], Pos(1, chain.checksum(case.history.images[1], 4096)))
    case.history.place(case.history.image[: len(small)], wal=wal[:-100])
    case.check(case.history.pos, case.history.image)


@pytest.mark.parametrize("extra", [1, 3])
def test_transactions_that_only_the_wal_has(case: Case, extra: int) -> None:
    scratch = in_wal(case)
    images = []
    for n in range(extra):
        scratch(f"INSERT INTO t (x) VALUES ('extra {n}')")
        images.append(scratch.image)
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
    case.check(Pos(case.history.pos.txid + extra, chain.checksum(images[-1], 4096)), images[-1])


def test_extra_transactions_without_a_page_table_and_with(case: Case) -> None:
    scratch = in_wal(case)
    case.save_table(case.history.image, case.history.pos)
    scratch("INSERT INTO t (x) VALUES ('extra')")
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
    case.check(Pos(case.history.pos.txid + 1, chain.checksum(scratch.image, 4096)), scratch.image)


def test_open_transaction_at_the_end_of_the_wal(case: Case) -> None:
    scratch = in_wal(case)
    size = len(scratch.side("wal"))
    scratch("PRAGMA cache_size = 2", "BEGIN", "UPDATE t SET x = randomblob(400)")
    assert len(scratch.side("wal")) > size
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
    case.check(case.history.pos, case.history.image)


@pytest.mark.parametrize("torn", [[3], [2, 3], [3, 5], [2, 4]])
@pytest.mark.parametrize("folded", [False, True])
def test_files_before_the_newest_are_torn(case: Case, torn: list[int], folded: bool) -> None:
    """Power loss takes what was not synced in any order. The WAL has it all: the same positions come of it again."""
    scratch = in_wal(case)
    first = case.history.images[1]
    case.save_table(first, Pos(1, chain.checksum(first, 4096)))
    for txid in torn:
        os.truncate(case.files / "ltx" / ltx.filename(txid, txid), 150)
    if folded:  # a checkpoint has begun
        case.history.place(scratch.image, wal=scratch.side("wal"))
    case.check(case.history.pos, case.history.image)


@pytest.mark.parametrize("file", ["its own", "empty", "gone"])
def test_power_loss_takes_a_file_that_a_primary_has_sent(case: Case, file: str) -> None:
    """Where the database can be had at the position before, the rest is fetched again."""
    on_disk(case)
    images = case.history.images
    (case.files / "ltx" / ltx.filename(2, 2)).write_bytes(b"")
    case.history.place({"its own": images[1], "empty": b"", "gone": None}[file])
    with open(case.files / "ltx" / ltx.filename(1, 1), "rb") as first:
        pos = Pos(1, ltx.read_info(first)[1].post_apply)
    case.check(pos, images[1])
    (branch,) = case.aside()
    assert branch.reason == "torn"
    assert [low for low, _ in branch.ranges()] == [2, 3, 4, 5]


def test_a_torn_file_before_what_a_saved_database_needs(case: Case) -> None:
    """The database is right: what was before the torn file leads nowhere any more, and is put aside with it."""
    on_disk(case)
    (case.files / "ltx" / ltx.filename(2, 2)).write_bytes(b"")
    state = case.recover()
    assert (state.pos, (case.files / "database").read_bytes()) == (case.history.pos, case.history.image)
    assert sorted(path.name for path in (case.files / "ltx").iterdir()) == [ltx.filename(n, n) for n in (3, 4, 5)]


def test_an_empty_database_file_is_not_taken_for_a_position(case: Case) -> None:
    """Nothing is left of what was: so nothing is claimed."""
    on_disk(case)
    for txid in (1, 2):
        (case.files / "ltx" / ltx.filename(txid, txid)).unlink()
    case.history.place(b"")
    assert case.recover().pos == Pos(0, 0)
    assert [branch.reason for branch in case.aside()] == ["damaged"]


def test_database_file_is_ahead_of_the_newest_file(case: Case) -> None:
    """Checkpointed transactions whose LTX files were lost are made again one by one, not as one."""
    scratch = in_wal(case)
    case.save_table(case.history.image, case.history.pos)
    images = []
    for n in range(2):
        scratch(f"UPDATE t SET x = randomblob(200) WHERE id = {n + 1}")
        images.append(scratch.image)
    case.history.place(scratch.image, wal=scratch.side("wal"))
    case.check(Pos(case.history.pos.txid + 2, chain.checksum(images[-1], 4096)), images[-1])


@pytest.mark.parametrize("committed", [True, False])
def test_restarted_wal(case: Case, committed: bool) -> None:
    """New salts, and old frames behind."""
    scratch = in_wal(case)
    scratch("PRAGMA wal_checkpoint(RESTART)", "PRAGMA cache_size = 2", "BEGIN", "UPDATE t SET x = 1 WHERE id < 40")
    if committed:
        scratch("COMMIT")
        case.history.commit(scratch.image)
    else:
        scratch("UPDATE t SET x = randomblob(50) WHERE id < 60")
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
    case.check(case.history.pos, case.history.image)


def test_old_transactions_over_a_newer_database_file(case: Case) -> None:
    """The WAL cannot be read to its end (a hole that SQLite left), but was folded: what can be read is no news."""
    scratch = case.scratch()
    fill(scratch)
    case.history.commit(scratch.image)
    salts = struct.unpack(">II", scratch.side("wal")[16:24])
    for n in range(3):
        before = len(scratch.side("wal"))
        scratch(f"UPDATE t SET x = randomblob(300) WHERE id < 20 AND {n} = {n}")
        case.history.commit(scratch.image, wal=(before, len(scratch.side("wal")) - before, *salts))
    wal = bytearray(scratch.side("wal"))
    scratch("PRAGMA wal_checkpoint(PASSIVE)")
    wal[before + 10 : before + 24] = bytes(14)
    case.history.place(scratch.path.read_bytes(), wal=bytes(wal))
    case.save_table(case.history.images[2], Pos(2, chain.checksum(case.history.images[2], 4096)))
    case.check(case.history.pos, case.history.image)


def test_pages_that_the_database_lost(case: Case) -> None:
    scratch = in_wal(case)
    scratch("DELETE FROM t WHERE id > 50", "VACUUM")
    case.history.commit(scratch.image)
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
    assert len(scratch.image) < len(case.history.images[1])
    case.check(case.history.pos, case.history.image)


# --------------------------------------------------------------------------------------------------- rollback journals


def hot(scratch: Scratch) -> tuple[bytes, bytes]:
    """A database in the middle of a transaction that has reached the file, and its journal."""
    scratch("PRAGMA cache_size = 2", "BEGIN", "UPDATE t SET x = randomblob(350)")
    return scratch.path.read_bytes(), scratch.side("journal")


def test_hot_journal(case: Case) -> None:
    scratch = on_disk(case)
    database, journal = hot(scratch)
    assert database[: len(case.history.image)] != case.history.image
    case.history.place(database, journal=journal)
    case.check(case.history.pos, case.history.image)


@pytest.mark.parametrize("saved", [True, False])
def test_hot_journal_of_a_transaction_that_used_unused_pages(case: Case, saved: bool) -> None:
    """SQLite does not keep their old content, but the other nodes have it."""
    scratch = on_disk(case)
    scratch("DELETE FROM t WHERE id > 40")
    case.history.commit(scratch.image)
    if saved:
        case.save_table(case.history.image, case.history.pos)
    scratch("PRAGMA cache_size = 2", "BEGIN", "INSERT INTO t SELECT id + 1000, randomblob(300) FROM t")
    database, journal = scratch.path.read_bytes(), scratch.side("journal")
    scratch("ROLLBACK")
    assert scratch.image != case.history.image
    case.history.place(database, journal=journal)
    case.check(case.history.pos, case.history.image)


def test_hot_journal_whose_transaction_was_captured(case: Case) -> None:
    """Killed between naming the LTX file and deleting the journal: the transaction counts."""
    scratch = on_disk(case)
    _, journal = hot(scratch)
    scratch("COMMIT")
    case.history.commit(scratch.image)
    case.history.place(scratch.image, journal=journal)
    case.check(case.history.pos, case.history.image)


@pytest.mark.parametrize("journal", [bytes(5000), b"", b"\0" * 8 + b"x" * 600, b"no journal" * 100, MAGIC + bytes(600)])
def test_journal_that_holds_no_transaction(case: Case, journal: bytes) -> None:
    scratch = on_disk(case)
    case.history.place(scratch.image, journal=journal)
    case.check(case.history.pos, case.history.image)


def test_torn_journal(case: Case) -> None:
    """Records that were never synced protect pages that were never overwritten."""
    scratch = on_disk(case)
    _, journal = hot(scratch)
    case.history.place(case.history.image, journal=journal[: len(journal) * 2 // 3 + 7])
    case.check(case.history.pos, case.history.image)


def full_journal(image: bytes) -> bytes:
    """A journal with every page of a database, as of a transaction that changed all of them."""
    count = len(image) // 4096
    data = bytearray(JournalHeader(count, 5, count, 512, 4096).encode())
    for pgno in range(1, count + 1):
        page = image[(pgno - 1) * 4096 : pgno * 4096]
        data += struct.pack(">I", pgno) + page + struct.pack(">I", record_checksum(page, 5))
    return bytes(data)


def with_super_journal(journal: bytes, name: str) -> bytes:
    text = name.encode()
    tail = struct.pack(">I", ltx.lock_page(4096)) + text + struct.pack(">II", len(text), sum(text)) + MAGIC
    return journal + tail


@pytest.mark.parametrize("committed", [True, False])
def test_super_journal_of_two_databases(case: Case, tmp_path: Path, committed: bool) -> None:
    """All or nothing: what counts is whether the super-journal is still there."""
    other = History(case.data / "dbs" / "other.db")
    scratch, second = on_disk(case), Scratch(tmp_path / "second", "delete")
    fill(second)
    other.commit(second.image)
    (case.data / "super").mkdir()
    super_journal = case.data / "super" / f"{NAME}-mj123456789"
    after = []
    for model, history in ((scratch, case.history), (second, other)):
        model("UPDATE t SET x = randomblob(350)")
        after.append(model.image)
        journal = full_journal(history.image)
        history.place(model.image, journal=with_super_journal(journal, f"/mnt/{super_journal.name}"))
    if not committed:
        super_journal.write_bytes(b"/mnt/app.db-journal\0/mnt/other.db-journal\0")
    for history, image, name in ((case.history, after[0], NAME), (other, after[1], "other.db")):
        state = case.recover(name)
        assert state.pos.txid == history.pos.txid + committed
        assert (history.directory / "database").read_bytes() == (image if committed else history.image)
        assert chain.replay(history.directory).pos == state.pos


# ---------------------------------------------------------------------------------------------- the table of checksums


def test_bad_table(case: Case) -> None:
    scratch = in_wal(case)
    pos, image = case.history.pos, case.history.image
    case.save_table(image, pos)
    good = (case.files / "checksums").read_bytes()
    wrong = bytearray(good)
    wrong[4096 + 8 * 3] ^= 1
    for data in (b"", b"x" * 5000, good[:20], good[:4100], bytes(wrong), b"LFSPGCK9" + good[8:], good[:8] + bytes(24)):
        case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
        (case.files / "checksums").write_bytes(data)
        case.check(pos, image)
    assert case.aside() == []


def test_table_of_a_position_behind_and_ahead(case: Case) -> None:
    on_disk(case)
    pos, image = case.history.pos, case.history.image
    for txid in (1, 3, pos.txid):
        content = case.history.images[txid]
        case.save_table(content, Pos(txid, chain.checksum(content, 4096)))
        case.check(pos, image)
    case.save_table(image, Pos(pos.txid + 7, pos.checksum))
    case.check(pos, image)
    case.save_table(case.history.images[2], Pos(2, pos.checksum))
    case.check(pos, image)


def test_table_whose_ltx_files_are_gone(case: Case) -> None:
    on_disk(case)
    case.save_table(case.history.images[1], Pos(1, chain.checksum(case.history.images[1], 4096)))
    for txid in (1, 2, 3):
        (case.files / "ltx" / ltx.filename(txid, txid)).unlink()
    assert case.recover().pos == case.history.pos
    assert (case.files / "database").read_bytes() == case.history.image


# ---------------------------------------------------------------------------------------------------------- the rest


def test_deleted_database(case: Case) -> None:
    on_disk(case)
    case.history.commit(b"")
    for left in (None, case.history.images[5]):  # killed after the LTX file, before the database file went
        case.history.place(left)
        assert case.recover().pos == Pos(case.history.pos.txid, EMPTY)
        assert not (case.files / "database").exists()


def test_database_made_again(case: Case) -> None:
    scratch = on_disk(case)
    case.history.commit(b"")
    case.history.commit(scratch.image)
    case.history.place(scratch.image)
    case.check(case.history.pos, scratch.image)
    case.history.place(None)
    case.check(case.history.pos, scratch.image)


def test_page_size_change(case: Case) -> None:
    on_disk(case)
    small = case.scratch("delete", 1024, "small")
    fill(small)
    before = case.history.image
    case.history.commit(small.image)
    small("UPDATE t SET x = 'after'")
    case.history.commit(small.image)
    case.history.place(small.image)
    case.check(case.history.pos, small.image)
    case.history.place(before)  # killed before the first page of the new size was written
    case.save_table(before, Pos(5, chain.checksum(before, 4096)))
    case.check(case.history.pos, small.image)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_plain_database_without_ltx_files(case: Case, mode: str) -> None:
    scratch = case.scratch(mode)
    fill(scratch)
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))
    case.check(Pos(1, chain.checksum(scratch.image, 4096)), scratch.image)


def test_file_that_is_no_database(case: Case) -> None:
    case.history.place(b"just some text\n" * 1000)
    assert case.recover().pos == Pos(0, 0)
    assert (case.files / "database").read_bytes() == b"just some text\n" * 1000


def test_damaged_database_is_set_aside(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the database nor the LTX files at hand can be trusted: kept, named, and a fresh start."""
    on_disk(case)
    for txid in (1, 2, 3):
        (case.files / "ltx" / ltx.filename(txid, txid)).unlink()
    broken = bytearray(case.history.image)
    broken[8192:16384] = os.urandom(8192)
    case.history.place(bytes(broken))
    assert case.recover().pos == Pos(0, 0)
    (kept,) = case.aside()
    assert kept.reason == "damaged"
    assert kept.copy.read_bytes() == broken
    assert kept.name in caplog.text
    assert len(kept.ranges()) == 2
    assert branches.is_exportable(kept)
    assert case.recover().pos == Pos(0, 0)


def test_sound_database_that_its_ltx_files_do_not_explain(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    scratch = on_disk(case)
    for txid in (1, 2, 3):
        (case.files / "ltx" / ltx.filename(txid, txid)).unlink()
    scratch("UPDATE t SET x = 'written behind our back'")
    case.history.place(scratch.image)
    state = case.recover()
    assert state.pos == Pos(case.history.pos.txid + 1, chain.checksum(scratch.image, 4096))
    assert (case.files / "database").read_bytes() == scratch.image
    assert "do not lead to position" in caplog.text


@pytest.mark.parametrize("saved", [True, False])
def test_database_file_changed_behind_our_back(case: Case, saved: bool) -> None:
    """Newer than the LTX files, and sound: one more transaction, of the changed pages only."""
    scratch = on_disk(case)
    if saved:
        case.save_table(case.history.image, case.history.pos)
    scratch("UPDATE t SET x = 'written behind our back' WHERE id = 90")
    case.history.place(scratch.image)
    case.check(Pos(case.history.pos.txid + 1, chain.checksum(scratch.image, 4096)), scratch.image)
    newest = case.files / "ltx" / ltx.filename(case.history.pos.txid + 1, case.history.pos.txid + 1)
    assert newest.stat().st_size < 3 * 4096


def test_older_copy_of_the_database_file_under_a_newer_table(case: Case) -> None:
    on_disk(case)
    case.save_table(case.history.image, case.history.pos)
    case.history.place(case.history.images[2])
    case.check(case.history.pos, case.history.image)


def test_files_of_an_earlier_run_are_removed(case: Case) -> None:
    on_disk(case)
    for name in ("shm", "wal.removed", "left.tmp", "ltx/17-3.ltx.tmp"):
        (case.files / name).write_bytes(b"left")
    case.check(case.history.pos, case.history.image)
    assert {path.name for path in case.files.iterdir()} == {"database", "ltx", "checksums"}


@pytest.mark.slow
def test_lock_page(case: Case) -> None:
    """A database of more than 1 GiB in pages of 64 KiB: page 16385 exists in the file and counts nowhere."""
    scratch = case.scratch("delete", 65536)
    fill(scratch)
    pages = 16390
    page_one = bytearray(scratch.image[:65536])
    page_one[28:32] = struct.pack(">I", pages)
    path = case.files / "database"
    path.write_bytes(scratch.image)
    with open(path, "r+b") as file:
        file.write(page_one)
        file.truncate(pages * 65536)
        file.seek(16384 * 65536)
        file.write(b"nobody may look at this")
    state = case.recover()
    assert (state.pos.txid, state.commit) == (1, pages)
    with open(case.files / "ltx" / ltx.filename(1, 1), "rb") as file:
        ltx.verify(file)
    (case.files / "checksums").unlink()
    assert case.recover().pos == state.pos


# ---------------------------------------------------------------------------------------------------- disks that fail


class Faults:
    """Makes the n-th change of a file fail, and all after it."""

    NAMES = ("pwrite", "ftruncate", "replace", "unlink", "fdatasync", "fsync", "write")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        self.left = 1 << 62
        self.code = code
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name)))

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise OSError(self.code, os.strerror(self.code))
            return function(*args, **options)

        return call


def extra_in_wal(case: Case) -> None:
    scratch = in_wal(case)
    scratch("INSERT INTO t (x) VALUES ('one')")
    scratch("INSERT INTO t (x) VALUES ('two')")
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))


def hot_journal(case: Case) -> None:
    database, journal = hot(on_disk(case))
    case.history.place(database, journal=journal)


def captured_journal(case: Case) -> None:
    scratch = on_disk(case)
    _, journal = hot(scratch)
    scratch("COMMIT")
    case.history.commit(scratch.image)
    case.history.place(scratch.image, journal=journal)


def behind(case: Case) -> None:
    on_disk(case)
    case.history.place(case.history.images[2])


def plain(case: Case) -> None:
    scratch = case.scratch()
    fill(scratch)
    case.history.place(scratch.path.read_bytes(), wal=scratch.side("wal"))


def committed_by_super_journal(case: Case) -> None:
    scratch = on_disk(case)
    scratch("UPDATE t SET x = randomblob(350)")
    journal = with_super_journal(full_journal(case.history.image), "/mnt/app.db-mj123456789")
    case.history.place(scratch.image, journal=journal)


def damaged(case: Case) -> None:
    on_disk(case)
    pos = case.history.pos
    (case.files / "ltx" / ltx.filename(pos.txid, pos.txid)).write_bytes(b"torn")


CRASHES = [extra_in_wal, hot_journal, captured_journal, behind, plain, committed_by_super_journal, damaged]


@pytest.mark.parametrize("make", CRASHES)
def test_interrupted_anywhere(
    case: Case, make: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk, or a kill, at any moment of recovery: the next one ends where an undisturbed one does."""
    logging.disable(logging.CRITICAL)
    make(case)
    saved = tmp_path / "saved"
    shutil.copytree(case.data, saved)
    expected = case.recover()
    image = (case.files / "database").read_bytes()
    faults = Faults(monkeypatch, errno.ENOSPC)
    for n in range(1000):
        monkeypatch.setattr(faults, "left", 1 << 62)
        shutil.rmtree(case.data)
        shutil.copytree(saved, case.data)
        faults.left = n
        try:
            case.recover()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        else:
            break
        faults.left = 1 << 62
        assert case.recover().pos == expected.pos
        assert (case.files / "database").read_bytes() == image
        chain.replay(case.files)
    else:
        raise AssertionError("recovery never ends")
    assert n > 2
    logging.disable(logging.NOTSET)
