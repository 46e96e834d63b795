"""Whether a backup is what it says: every file is read, and every level leads to the state that it names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from litefs import ltx
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs_backup_store import plan
from litefs_backup_store.entries import Entry
from litefs_backup_store.objects import Damaged, ObjectMissing
from litefs_backup_store.vault import Vault


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a database's backup."""

    database: str
    what: str

    def __str__(self) -> str:
        return f"{self.database}: {self.what}"


def check(vault: Vault, database: str, progress: Callable[[int], object]) -> Iterator[Finding]:
    """Read all of a database's backup and restore its newest state to scratch.

    Args:
        progress: told how many bytes more were read.
    """
    files = vault.files(database)
    head = vault.head(database)
    ways = plan.reachable(files)
    if head.pos not in ways:
        yield Finding(database, f"no files lead to its newest state {head.pos}")
    lost = [entry for entry in files if entry.after not in ways]
    for entry in lost:
        yield Finding(database, f"{entry.key}: no files lead to it")
    with tempfile.TemporaryDirectory(prefix="litefs-verify-") as scratch:
        for entry in files:
            problem = _check_file(vault, entry, Path(scratch) / "file.ltx")
            if problem:
                yield Finding(database, f"{entry.key}: {problem}")
            progress(entry.size)
        # The newest snapshot of every level's own way, so that an error in merging is found as well.
        for pos in _ends(files, ways):
            problem = _check_state(vault, database, pos, Path(scratch))
            if problem:
                yield Finding(database, problem)


def _check_file(vault: Vault, entry: Entry, path: Path) -> str:
    path.unlink(missing_ok=True)
    try:
        vault.objects.download(entry.key, path)
        with open(path, "rb") as file:
            header, trailer = ltx.verify(file, entry.key.rpartition("/")[2])
    except ObjectMissing:
        return ""  # merged meanwhile
    except (Damaged, LTXError) as error:
        return str(error)
    if (header.min_txid, header.max_txid, trailer.post_apply) != (entry.min_txid, entry.max_txid, entry.post):
        return "holds something else than its name says"
    return ""


def _ends(files: list[Entry], ways: dict[Pos, Entry]) -> list[Pos]:
    """The newest state of each level."""
    newest: dict[int, Pos] = {}
    for entry in files:
        if entry.after in ways:
            newest[entry.level] = max(newest.get(entry.level, Pos(0, 0)), entry.after)
    return sorted(set(newest.values()))


def _check_state(vault: Vault, database: str, pos: Pos, scratch: Path) -> str:
    try:
        with open(scratch / "state.ltx", "wb") as output:
            header, trailer = vault.restore(database, output, txid=pos.txid)
    except Exception as error:
        return f"its state {pos} cannot be restored: {error}"
    found = Pos(header.max_txid, trailer.post_apply)
    return "" if found == pos else f"its state {pos} cannot be restored, only {found}"
