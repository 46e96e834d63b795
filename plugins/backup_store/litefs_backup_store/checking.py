"""Whether a backup is what it says: every file is read, and every level leads to the state that it names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from litefs import ltx
from litefs.backup.folding import fold
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs_backup_store import plan
from litefs_backup_store.entries import Entry
from litefs_backup_store.objects import Damaged, ObjectMissing
from litefs_backup_store.vault import Vault

TRIES = 5
"""Times that a level is read anew because merging has changed it meanwhile."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a database's backup."""

    database: str
    what: str

    def __str__(self) -> str:
        return f"{self.database}: {self.what}"


def check(vault: Vault, database: str, progress: Callable[[int], object]) -> Iterator[Finding]:
    """Read all of a database's backup, and restore its newest state, and each level's by that level's own files.

    Args:
        progress: told how many bytes more were read.

    Raises:
        StorageError: the backup cannot be reached, or is encrypted with a key that is not at hand.
    """
    head, files = _look(vault, database)
    ways = plan.reachable(files)
    if head not in ways:
        yield Finding(database, f"no files lead to its newest state {head}")
    for entry in files:
        if entry.after not in ways and not _is_spare(entry, ways):
            yield Finding(database, f"{entry.key}: no files lead to it")
    with tempfile.TemporaryDirectory(prefix="litefs-verify-") as scratch:
        for entry in files:
            problem = _check_file(vault, entry, Path(scratch) / "file.ltx")
            if problem:
                yield Finding(database, f"{entry.key}: {problem}")
            progress(entry.size)
    for level in sorted({entry.level for entry in files}):
        problem = _check_level(vault, database, level)
        if problem:
            yield Finding(database, problem)


def _look(vault: Vault, database: str) -> tuple[Pos, list[Entry]]:
    """The newest position, and the files; both from the same moment."""
    files = vault.files(database)
    return vault.head(database).pos, files


def _is_spare(entry: Entry, ways: Mapping[Pos, Entry]) -> bool:
    """Whether a file is left of a finer level whose older files have expired: a coarser one has its transactions."""
    return any(
        other.level > entry.level and other.min_txid <= entry.min_txid and entry.max_txid <= other.max_txid
        for other in ways.values()
    )


def _check_file(vault: Vault, entry: Entry, path: Path) -> str:
    path.unlink(missing_ok=True)
    try:
        vault.objects.download(entry.key, path)
        with open(path, "rb") as file:
            header, trailer = ltx.verify(file, entry.key.rpartition("/")[2])
    except ObjectMissing:
        return ""  # merged meanwhile
    except (Damaged, LTXError) as error:
        return str(error).removeprefix(entry.key).strip()
    if (header.min_txid, header.max_txid, trailer.post_apply) != (entry.min_txid, entry.max_txid, entry.post):
        return "holds something else than its name says"
    return ""


def _check_level(vault: Vault, database: str, level: int) -> str:
    """Restore the newest state that a level's own files lead to: an error in merging shows in its checksum."""
    for _ in range(TRIES):
        way = own_way(vault.files(database), level)
        if not way:
            return ""  # merged meanwhile, or reported as one that no files lead to
        try:
            with vault.fetched(way) as paths:
                header, trailer = fold(paths, _Nowhere(), compress=False)
        except ObjectMissing:
            continue  # merged meanwhile
        except (Damaged, LTXError) as error:
            return f"its state {way[-1].after} cannot be restored from level {level}: {error}"
        found = Pos(header.max_txid, trailer.post_apply)
        return "" if found == way[-1].after else f"level {level} leads to {found} instead of {way[-1].after}"
    return ""


def own_way(files: Iterable[Entry], level: int) -> Sequence[Entry]:
    """The way to a level's newest state that uses as many of its own files as there are, from a snapshot on."""
    files = list(files)
    starts = {plan.NOWHERE, *plan.reachable(files)}
    own = sorted((entry for entry in files if entry.level == level), key=lambda entry: entry.min_txid)
    begin = next((entry.min_txid for entry in own if entry.min_txid == 1 or entry.before in starts), 0)
    ways = plan.reachable([*own, *(entry for entry in files if entry.max_txid < begin)])
    reached = max((entry.after for entry in own if ways.get(entry.after) == entry), default=None)
    if reached is None:  # not without files of other levels in between
        ways = plan.reachable(files)
        reached = max((entry.after for entry in own if entry.after in ways), default=None)
    return () if reached is None else plan.way(ways, reached)


class _Nowhere:
    """Takes everything: what is restored was compared by checksums, and nobody wants it."""

    def write(self, data: bytes, /) -> object:
        return len(data)
