"""What a vault keeps: points in time, levels, retention, and what is left of processes that were killed."""

from __future__ import annotations

import io
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from litefs_backup_store.entries import SNAPSHOT, folder_name
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.levels import Level, Levels
from litefs_backup_store.maintenance import Maintenance
from litefs_backup_store.objects import Damaged, ObjectChanged, ObjectMissing
from litefs_backup_store.plan import NoSuchState
from litefs_backup_store.vault import DatabaseUnknown, Replaced, Vault

from litefs import ltx
from litefs.backup import PositionConflict
from litefs.ltx import Pos
from litefs.testing import History

LEVELS = Levels((Level(1, 10, 60), Level(2, 60, 600), Level(3, 600, 3600)), 1000, 3600)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small files: what is durable is not looked at here."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    found = Vault(FolderObjects(tmp_path / "vault"))
    found.claim()
    return found


class Writer:
    """A database whose every transaction goes into a vault; its clock moves a second with each."""

    def __init__(self, vault: Vault, folder: Path) -> None:
        self.vault = vault
        self.history = History()
        self.states: list[tuple[Pos, int, dict[int, bytes]]] = []
        self._file = folder / "file.ltx"

    def put(self, data: bytes) -> None:
        self._file.write_bytes(data)
        with open(self._file, "rb") as file:
            header, trailer = ltx.verify(file)
        self.vault.append("app.db", self._file, header, trailer)
        self.states.append((self.history.pos, self.history.timestamp, dict(self.history.pages)))

    def commit(self, number: int = 1) -> None:
        rng = random.Random(self.history.pos.txid)
        for _ in range(number):
            size = rng.randrange(2, 6) if rng.random() < 0.1 else None
            self.put(self.history.commit({rng.randrange(1, 9): rng.randbytes(8), 1: b"1"}, size=size))

    @property
    def now(self) -> float:
        return self.history.timestamp / 1000

    def maintain(self, levels: Levels = LEVELS, later: float = 0) -> None:
        Maintenance(self.vault, levels, now=self.now + later).run("app.db")


@pytest.fixture
def writer(vault: Vault, tmp_path: Path) -> Writer:
    return Writer(vault, tmp_path)


def content(vault: Vault, **at: Any) -> tuple[Pos, dict[int, bytes]]:
    output = io.BytesIO()
    header, trailer = vault.restore("app.db", output, **at)
    output.seek(0)
    return Pos(header.max_txid, trailer.post_apply), {n: bytes(data) for n, data in ltx.Decoder(output)}


def levels(vault: Vault) -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in vault.files("app.db"):
        found[entry.level] = found.get(entry.level, 0) + 1
    return found


def test_what_was_before_a_restore_is_kept(writer: Writer, vault: Vault) -> None:
    writer.commit(20)
    before, first = writer.states[-1], writer.states[3]
    pos = vault.append_state("app.db", txid=4)
    assert content(vault) == (pos, first[2])
    later = time.time() - writer.now + 500  # all of it is one merged file by then
    writer.maintain(later=later)
    assert content(vault, txid=before[0].txid) == (before[0], before[2])
    writer.maintain(later=later + 2000)
    assert content(vault, txid=before[0].txid) == (before[0], before[2])
    assert content(vault) == (pos, first[2])


def test_a_database_is_removed_with_its_past(writer: Writer, vault: Vault) -> None:
    writer.commit(20)
    writer.maintain(later=100)
    writer.commit(3)
    vault.remove("app.db")
    assert vault.positions() == {}
    assert list(vault.objects.list("ltx/")) == []
    with pytest.raises(DatabaseUnknown):
        vault.remove("app.db")


def test_every_transaction_can_be_restored_until_it_is_merged(writer: Writer) -> None:
    writer.commit(20)
    for pos, timestamp, pages in writer.states:
        assert content(writer.vault, txid=pos.txid) == (pos, pages)
        assert content(writer.vault, timestamp=timestamp) == (pos, pages)
        assert content(writer.vault, timestamp=timestamp + 999) == (pos, pages)
    assert content(writer.vault) == (writer.history.pos, writer.history.pages)


def test_before_the_beginning(writer: Writer) -> None:
    writer.commit()
    with pytest.raises(NoSuchState, match="of that time"):
        content(writer.vault, timestamp=1)
    with pytest.raises(NoSuchState, match="not found"):
        writer.vault.plan("other.db")


def test_levels_hold_what_they_should(writer: Writer) -> None:
    for _ in range(120):
        writer.commit(10)
        writer.maintain()
    found = levels(writer.vault)
    assert found[1] < 20, found  # a minute of ten seconds each, and what is not in level 2 yet
    assert found[2] < 30, found
    assert found[3] < 10, found
    assert found[SNAPSHOT] <= 4, found
    assert content(writer.vault) == (writer.history.pos, writer.history.pages)
    for pos, timestamp, pages in writer.states[-50:]:  # the last minute is kept as it came
        assert content(writer.vault, timestamp=timestamp) == (pos, pages)
    by_position = {pos: pages for pos, _, pages in writer.states}
    for ago in (5, 30, 100, 500, 1100):
        pos, timestamp, _ = writer.states[-ago]
        restored, pages = content(writer.vault, timestamp=timestamp)
        assert by_position[restored] == pages
        # No coarser than the level that is kept for that long.
        assert pos.txid - restored.txid <= (20 if ago < 60 else 120 if ago < 500 else 1200)


def test_nothing_that_is_needed_is_removed(writer: Writer) -> None:
    """With everything expired, the newest state and all after the oldest snapshot can still be restored."""
    for _ in range(30):
        writer.commit(10)
        writer.maintain()
    writer.maintain(Levels((Level(1, 10, 0), Level(2, 60, 0), Level(3, 600, 0)), 10**9, 0), later=10**6)
    assert content(writer.vault) == (writer.history.pos, writer.history.pages)
    writer.commit(3)
    assert content(writer.vault) == (writer.history.pos, writer.history.pages)


def test_deletions_and_page_sizes(writer: Writer) -> None:
    for round_ in range(6):
        writer.commit(7)
        writer.put(writer.history.delete() if round_ % 2 else writer.history.commit({1: b"x"}, page_size=1024))
        writer.maintain(later=20)
        for pos, _, pages in writer.states[-3:]:
            restored, found = content(writer.vault, txid=pos.txid)
            assert found == {p: c for p, _, c in writer.states}[restored]
            assert restored == pos or pages is not found
        writer.commit(2) if round_ % 2 else None
    assert content(writer.vault) == (writer.history.pos, writer.history.pages)


class Killed(Exception):
    pass


class Mortal(FolderObjects):
    """Dies at the n-th change."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.left = 10**9

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def upload(self, key: str, path: Path) -> None:
        self._change()
        super().upload(key, path)

    def replace(self, key: str, data: bytes, version: str | None) -> str:
        self._change()
        return super().replace(key, data, version)

    def copy(self, source: str, target: str) -> None:
        self._change()
        super().copy(source, target)

    def delete(self, keys) -> None:  # type: ignore[no-untyped-def]
        for key in list(keys):
            self._change()
            super().delete([key])


def test_killed_at_every_step(tmp_path: Path) -> None:
    """After any of them the next process finds everything that was stored, goes on, and tidies up."""
    for steps in range(0, 400, 5):
        folder = tmp_path / str(steps)
        folder.mkdir()
        mortal = Mortal(folder / "vault")
        vault = Vault(mortal)
        vault.claim()
        mine = Writer(vault, folder)
        mortal.left = steps
        stored = 0
        try:
            for _ in range(5):
                for _ in range(6):
                    mine.commit()
                    stored = mine.history.pos.txid
                mine.maintain(later=30)
        except Killed:
            pass
        following = Vault(FolderObjects(folder / "vault"))
        following.claim()
        pos = following.head("app.db").pos
        assert pos.txid in (stored, stored + 1)
        if not pos.txid:
            continue
        assert content(following)[0] == pos
        Maintenance(following, LEVELS, now=mine.now + 5000).run("app.db")
        assert content(following)[0] == pos
        if mortal.left >= 0:
            break
    else:
        raise AssertionError("never ran to its end")


def test_orphans_go(writer: Writer, tmp_path: Path) -> None:
    writer.commit(2)
    sent = writer.vault.files("app.db")[-1].key
    orphan = sent.replace(".ltx", "f.ltx")
    writer.vault.objects.copy(sent, orphan)
    writer.maintain()
    assert writer.vault.objects.get(orphan)
    Maintenance(writer.vault, LEVELS, now=2**33).run("app.db")
    with pytest.raises(ObjectMissing):
        writer.vault.objects.get(orphan)


def test_a_second_writer_replaces_the_first(vault: Vault, writer: Writer, tmp_path: Path) -> None:
    writer.commit()
    second = Vault(FolderObjects(tmp_path / "vault"))
    second.claim()
    with pytest.raises(Replaced, match="epoch 2, ours is 1"):
        writer.commit()
    with pytest.raises(Replaced):
        Maintenance(vault, LEVELS, now=2**33).run("app.db")


def test_a_conflict_leaves_no_object(writer: Writer, tmp_path: Path) -> None:
    writer.commit(2)
    before = {item.key for item in writer.vault.objects.list("ltx/")}
    writer.history.commit({1: b"not stored"})
    with pytest.raises(PositionConflict):
        writer.commit()
    assert {item.key for item in writer.vault.objects.list("ltx/")} == before


def test_damage_is_noticed(writer: Writer, tmp_path: Path) -> None:
    writer.commit(3)
    key = writer.vault.files("app.db")[1].key
    path = tmp_path / "vault" / key
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=r"app\.db"):
        content(writer.vault)
    with pytest.raises(Damaged):
        writer.maintain(later=100)


def test_replace_only_what_was_seen(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    first = objects.replace("a/b", b"1", None)
    with pytest.raises(ObjectChanged):
        objects.replace("a/b", b"2", None)
    second = objects.replace("a/b", b"2", first)
    with pytest.raises(ObjectChanged):
        objects.replace("a/b", b"3", first)
    assert objects.get("a/b") == (b"2", second)


def test_names(tmp_path: Path) -> None:
    names = ["a.db", "A b", "ü" * 100, "x" * 255, "..db", "a%2Fb", ".hidden"]
    folders = {folder_name(name) for name in names}
    assert len(folders) == len(names)
    assert all("/" not in name and not name.startswith(".") and len(name) < 200 for name in folders)
