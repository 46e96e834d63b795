"""Verification: damage of every kind is found, by a command or at times, and told."""

from __future__ import annotations

import io
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import litefs_backup_store as plugin
import pytest
from litefs_backup_store.checking import check, own_way
from litefs_backup_store.entries import Entry
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.levels import Level, Levels
from litefs_backup_store.maintenance import Maintenance
from litefs_backup_store.vault import Vault
from litefs_backup_store.verifier import KEY, Verifier
from litefs_backup_store.verifying import Stopped, verify, verify_apart

from litefs import ltx
from litefs.backup import BackupError, Verification
from litefs.testing import History, backup_config

LEVELS = Levels((Level(1, 4, 60), Level(2, 16, 900), Level(3, 64, 900)), 100, 900, sent_retention=8)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup with files at every level."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)  # hundreds of small files
        return make_template(tmp_path_factory)


def make_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    vault = Vault(FolderObjects(folder / "vault"))
    vault.claim()
    history, file = History(), folder / "file.ltx"
    for number in range(260):
        file.write_bytes(history.commit({number % 7 + 1: b"%d" % number, 1: b"x"}))
        with open(file, "rb") as opened:
            vault.append("app.db", file, *ltx.verify(opened))
        if number % 6 == 5:
            Maintenance(vault, LEVELS, now=history.timestamp / 1000).run("app.db")
    return folder / "vault"


@pytest.fixture
def vault(template: Path, tmp_path: Path) -> Vault:
    shutil.copytree(template, tmp_path / "vault")
    return Vault(FolderObjects(tmp_path / "vault"))


def problems(vault: Vault) -> list[str]:
    return [finding.what for finding in check(vault, "app.db", lambda _: None)]


def falsify(folder: Path, entry: Entry) -> None:
    """Another content of a page, in a file that is whole."""
    path = folder / "vault" / entry.key
    decoder = ltx.Decoder(io.BytesIO(path.read_bytes()))
    pages = [(number, bytes(data)) for number, data in decoder]
    pages[-1] = pages[-1][0], b"wrong".ljust(decoder.header.page_size, b"\0")
    path.write_bytes(ltx.encode(decoder.header, pages, decoder.trailer.post_apply))


def test_every_level_is_restored_by_its_own_files(vault: Vault) -> None:
    files = vault.files("app.db")
    assert {entry.level for entry in files} == {0, 1, 2, 3, 9}
    for level in (0, 1, 2, 3, 9):
        way = own_way(files, level)
        own = [entry for entry in files if entry.level == level]
        assert way[-1].after == max(entry.after for entry in own)
        assert level == 9 or len(set(own) - set(way)) < 4, "only those whose way has expired"
    assert problems(vault) == []
    assert verify(vault).count == 0


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_wrong_merge_is_found_at_every_level(vault: Vault, tmp_path: Path, level: int) -> None:
    """Each file is whole, and for the newest state most of them are not needed."""
    own = [entry for entry in vault.files("app.db") if entry.level == level]
    falsify(tmp_path, max(own, key=lambda entry: entry.max_txid))
    assert any(f"cannot be restored from level {level}" in problem for problem in problems(vault))


def test_what_is_damaged_or_gone_is_found(vault: Vault, tmp_path: Path) -> None:
    first, *_, last = sorted((entry for entry in vault.files("app.db") if entry.level == 2), key=lambda e: e.max_txid)
    path = tmp_path / "vault" / first.key
    path.write_bytes(path.read_bytes()[:-1])
    assert any(first.key in problem for problem in problems(vault))
    for entry in vault.files("app.db"):
        if entry.level in (0, 9):
            (tmp_path / "vault" / entry.key).unlink()
    found = verify(vault)
    assert found.count >= 2
    assert len(found.problems) <= 20
    assert any("no files lead to" in problem for problem in found.problems), last


def test_in_a_process_of_its_own(vault: Vault, tmp_path: Path) -> None:
    config = backup_config(plugin, {"type": "folder", "path": str(tmp_path / "vault")})
    found = verify_apart(config, lambda: True)
    assert (found.databases, found.count) == (1, 0)
    with pytest.raises(Stopped):
        verify_apart(config, lambda: False)
    (tmp_path / "vault" / "heads" / "app.db.json").write_text("{}")
    with pytest.raises(BackupError, match="is damaged"):
        verify_apart(config, lambda: True)


class Rounds:
    """A way to verify that says what it is told to, the last thing again and again."""

    def __init__(self, *answers: Verification | Exception) -> None:
        self.left = list(answers)

    def __call__(self, is_wanted: Callable[[], bool]) -> Verification:
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_at_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    objects = FolderObjects(tmp_path)
    found = Verification(time.time(), 1.0, 1, ("app.db: bad",), 1)
    verifier = Verifier(objects, Rounds(BackupError("no answer"), found), 0.01)
    verifier.start()
    until(lambda: any(item.key == KEY for item in objects.list("")))  # the last thing it does
    verifier.close()
    assert "the backup is damaged: app.db: bad" in caplog.text
    assert verifier.last == found
    assert "the backup cannot be verified now, will try again: no answer" in caplog.text
    # The next primary knows, and waits for its time.
    following = Verifier(objects, Rounds(), 3600)
    following.start()
    until(lambda: following.last == found)
    following.close()
