"""Where the files are: for each database a row of objects, named by the transaction they begin with.

TODO: put your backend here. All it needs is to list, to read, and to create an object only where there is none: that
is what keeps two nodes, which both believe to be primary, from mixing their histories. The folder below makes the
plugin work from the start.

Everything here blocks; `SampleClient` calls it in threads.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litefs.backup import BackupError
from litefs.ltx import format_txid, parse_txid


class Shelf:
    """Access to the folder.  Every method raises BackupError where it cannot be used.

    Args:
        path: the folder; made when it is used.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    @property
    def url(self) -> str:
        """For the log; never with a secret in it."""
        return f"sample:{self._path}"

    def databases(self) -> list[str]:
        """Names of all databases that have a file."""
        with self._blamed():
            self._path.mkdir(parents=True, exist_ok=True)
            return [entry.name for entry in os.scandir(self._path) if entry.is_dir()]

    def files(self, database: str) -> list[int]:
        """The first transaction of each file, in order; empty for an unknown database."""
        with self._blamed():
            try:
                names = os.listdir(self._path / database)
            except FileNotFoundError:
                return []
            return sorted(parse_txid(name.removesuffix(".ltx")) for name in names if name.endswith(".ltx"))

    def fetch(self, database: str, txid: int, target: Path) -> None:
        """Copy a file here.  Where only its ends are wanted, a backend with ranges can do better."""
        with self._blamed():
            shutil.copyfile(self._name(database, txid), target)

    def add(self, database: str, txid: int, source: Path) -> bool:
        """Keep a file, durably and as a whole; False, and nothing happens, where there is one already."""
        with self._blamed():
            (self._path / database).mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._path / database, prefix=".") as new, open(source, "rb") as file:
                shutil.copyfileobj(file, new)
                new.flush()
                os.fsync(new.fileno())
                try:
                    os.link(new.name, self._name(database, txid))
                except FileExistsError:
                    return False
            self._sync(self._path / database)
            self._sync(self._path)
            return True

    def _name(self, database: str, txid: int) -> Path:
        return self._path / database / f"{format_txid(txid)}.ltx"

    def _sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackupError(f"{error.filename or self._path}: {error.strerror}") from error
