"""Super-journals: the files that make a transaction over several rollback-mode databases atomic.

SQLite names one ``MAIN-mjXXXXXXXXX`` after the first database and lists the journals of all of them in it. While it
exists, those journals are hot; deleting it commits all of them at once. Here they are ordinary local files.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from litefs.store.names import Kind, split

_STARTED = time.time()


def read_names(path: Path) -> list[str]:
    """Databases whose journals a super-journal lists; of a torn one, those that can be read."""
    try:
        parts = path.read_bytes().split(b"\0")
    except OSError:
        return []
    names = []
    for part in parts:
        name, kind = split(os.path.basename(os.fsdecode(part)))
        if kind is Kind.JOURNAL:
            names.append(name)
    return names


def leftovers(directory: Path, *, before_start: bool) -> list[tuple[Path, list[str]]]:
    """Super-journals in the directory with the databases they name; of an earlier run only, if asked."""
    found = []
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if not before_start or entry.stat().st_mtime < _STARTED:
            found.append((Path(entry.path), read_names(Path(entry.path))))
    return found


def commits(directory: Path, name: str) -> bool:
    """Whether a journal that names this super-journal (any path) was committed: the super-journal is gone."""
    return not (directory / os.path.basename(name)).exists()
