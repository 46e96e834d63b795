"""The file ``clusterid``: which cluster the databases of a data directory belong to."""

from __future__ import annotations

import os
import re
from pathlib import Path

from litefs.errors import StoreError
from litefs.store.syncing import sync_directory

FILE_NAME = "clusterid"
_FORM = re.compile(r"LFSC[!-~]{16}")  # LiteFS makes hexadecimal ones, and takes any


def check(value: str) -> str:
    """The id, if it is one.

    Raises:
        StoreError: it is not.
    """
    if not _FORM.fullmatch(value):
        raise StoreError(f"invalid cluster id: {value!r}", "expected LFSC and 16 more characters")
    return value


def read(data_dir: Path) -> str:
    """The id; empty where there is none yet."""
    try:
        return (data_dir / FILE_NAME).read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""


def write(data_dir: Path, value: str) -> None:
    """Remember the id, durably.

    Raises:
        StoreError: it is none.
        OSError: the disk refused.
    """
    temporary = data_dir / f"{FILE_NAME}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(check(value) + "\n")
        file.flush()
        os.fsync(file.fileno())  # else a power failure leaves an empty file: another cluster would be founded
    os.replace(temporary, data_dir / FILE_NAME)
    sync_directory(data_dir)


def forget(data_dir: Path) -> None:
    """Be of no cluster from now on.

    Raises:
        OSError: the disk refused.
    """
    (data_dir / FILE_NAME).unlink(missing_ok=True)
    sync_directory(data_dir)
