"""Super-journals: the files that make a transaction over several rollback-mode databases atomic.

SQLite names one ``MAIN-mjXXXXXXXXX`` after the first database and lists the journals of all of them in it. While it
exists, those journals are hot; deleting it commits all of them at once. Here they are ordinary local files.
"""

from __future__ import annotations

import os
from pathlib import Path

from litefs.store.names import Kind, split


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


def leftovers(directory: Path) -> list[tuple[Path, list[str]]]:
    """Super-journals in the directory with the databases they name."""
    return [(path, read_names(path)) for path in sorted(directory.iterdir())]


def commits(directory: Path, name: str) -> bool:
    """Whether a journal that names this super-journal (any path) was committed: the super-journal is gone."""
    return not (directory / os.path.basename(name)).exists()
