"""LiteFS's ``backup.type: file``: a directory ``PATH/DB/`` of LTX files for each database, merged as they came.

A file is complete and durable before it has its name, so whatever ends the process leaves nothing that could be taken
for a backup. The newest file says where the database stands.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from litefs import ltx
from litefs.backup import BackupError, DatabaseRefused, PositionConflict
from litefs.backup.folding import fold
from litefs.errors import BadName, LTXError
from litefs.ltx import Header, Pos, filename, parse_filename
from litefs.replication.incoming import verifier
from litefs.replication.pipes import FromThread, Output, ToThread
from litefs.store.names import check_name
from litefs.store.syncing import sync_directory, sync_file

LIMIT = 24 * 3600.0
"""Seconds for a snapshot to be read."""

LEFTOVER = 3600.0
"""Seconds after which a file that is not complete belongs to a process that is gone."""

NOWHERE = Pos(0, 0)

Range = tuple[int, int]

_numbers = itertools.count()


class FileClient:
    """A `litefs.backup.BackupClient` on a directory that one cluster writes to."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()

    @property
    def url(self) -> str:
        """The directory, as LiteFS writes it."""
        return f"file://{self._path}"

    async def positions(self) -> dict[str, Pos]:
        """Where the newest file of each directory leads."""
        return await trio.to_thread.run_sync(self._positions)

    def _positions(self) -> dict[str, Pos]:
        found = {}
        with _blamed(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
            for entry in os.scandir(self._path):
                with suppress(BadName):
                    if entry.is_dir() and (pos := _position(self._path / check_name(entry.name))) != NOWHERE:
                        found[entry.name] = pos
        return found

    async def write(self, name: str, ltx: AsyncIterator[bytes]) -> int:
        """Write the file, durably, if it follows."""
        pipe = ToThread(partial(_store, self._path / check_name(name)))
        try:
            async for piece in ltx:
                await pipe.put(piece)
            return await pipe.finish()
        finally:
            await pipe.aclose()

    @asynccontextmanager
    async def snapshot(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """All files of the database, merged."""
        directory = self._path / check_name(name)
        files = [path for _, path in await trio.to_thread.run_sync(_files, directory)]
        if not files:
            raise DatabaseRefused(f'database not found: "{name}"')
        pipe = FromThread(partial(_fold, directory, files), limit=LIMIT)
        try:
            yield pipe
        finally:
            await pipe.aclose()

    async def aclose(self) -> None:
        """Nothing is open."""


@contextmanager
def _blamed(where: Path) -> Iterator[None]:
    """What goes wrong inside is the backup's fault, of this database or of the disk."""
    try:
        yield
    except LTXError as error:
        raise DatabaseRefused(f"{where}: {error.message}") from error
    except OSError as error:
        raise BackupError(f"{error.filename or where}: {error.strerror or error}") from error


def _files(directory: Path) -> list[tuple[Range, Path]]:
    """The LTX files of a database, oldest first."""
    with suppress(FileNotFoundError):
        names = (entry.name for entry in os.scandir(directory))
        return sorted((item, directory / name) for name in names if (item := parse_filename(name)) is not None)
    return []


def _position(directory: Path) -> Pos:
    files = _files(directory)
    if not files:
        return NOWHERE
    path = max(files, key=lambda file: file[0][1])[1]
    with open(path, "rb") as file:
        head, trailer = ltx.read_info(file, path.name)
    return Pos(head.max_txid, trailer.post_apply)


def _store(directory: Path, read: Callable[[int], bytes]) -> int:
    """Verify and keep a file. Runs in a worker."""
    with _blamed(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _sweep(directory)
        temporary = directory / f".{os.getpid()}-{next(_numbers)}.tmp"
        try:
            head, _ = verifier(temporary, directory.name)(read)
            _check(head, _position(directory))
            sync_file(temporary)
            os.replace(temporary, directory / filename(head.min_txid, head.max_txid))
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(directory)
        sync_directory(directory.parent)
        return head.max_txid


def _check(head: Header, pos: Pos) -> None:
    follows = pos == NOWHERE if head.is_snapshot else head.pos_before == pos
    if not follows:
        raise PositionConflict(pos)


def _sweep(directory: Path) -> None:
    """Delete what a process left that was killed."""
    for path in directory.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - LEFTOVER:
                path.unlink()


def _fold(directory: Path, files: Sequence[Path], write: Callable[[bytes | memoryview], None]) -> None:
    with _blamed(directory):
        fold(files, Output(write), compress=True)
