"""``POST /import``: replace a database by a SQLite file, all of it or nothing."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import trio
from starlette.responses import Response

from litefs.errors import ReadOnly
from litefs.http import database_file
from litefs.http.errors import HTTPError
from litefs.http.exchange import Exchange
from litefs.http.services import Services
from litefs.store.names import check_name

BATCH = 1 << 20  # bytes per write; a change to a worker thread costs as much as writing 100 KB


async def import_(exchange: Exchange, services: Services) -> Response:
    """Receive the file, check that it is whole, and make it the database's next transaction."""
    name = exchange.param("name")
    if not name:
        raise HTTPError(400, "name required")
    check_name(name)
    store = services.store
    if not store.writable:
        raise ReadOnly("lease expired")
    # Without a name in the directory: nothing is left behind, whatever happens.
    _check_room(exchange, store.data_dir)
    with _nameless(store.data_dir) as file:
        await _receive(exchange, file.fileno())
        await trio.to_thread.run_sync(_check, file.fileno())
        # From here on the client's patience does not matter: a transaction is made, or it is not.
        with trio.CancelScope(shield=True):
            db = await store.database(name, create=True)
            await db.import_database(Path(f"/proc/self/fd/{file.fileno()}"))
    return Response()


def _check_room(exchange: Exchange, directory: Path) -> None:
    """Refuse what cannot fit, rather than fill the disk, on which applications want to commit meanwhile."""
    announced = exchange.headers.get("content-length", "")
    disk = os.statvfs(directory)
    if announced.isdigit() and int(announced) > disk.f_bavail * disk.f_frsize:
        raise HTTPError(HTTPStatus.INSUFFICIENT_STORAGE, f"the disk has no room for {announced} bytes")


def _nameless(directory: Path) -> BinaryIO:
    """A file that can be given a name later, where the file system knows such."""
    try:
        fd = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError:
        return TemporaryFile(dir=directory, buffering=0)
    return open(fd, "r+b", buffering=0)


async def _receive(exchange: Exchange, fd: int) -> None:
    pending: list[bytes] = []
    waiting = 0
    async for piece in exchange.chunks():
        pending.append(piece)
        waiting += len(piece)
        if waiting >= BATCH:
            await trio.to_thread.run_sync(_write, fd, pending)
            waiting, pending = 0, []
    await trio.to_thread.run_sync(_write, fd, pending)


def _write(fd: int, pieces: list[bytes]) -> None:
    data = memoryview(b"".join(pieces))
    while data:
        data = data[os.write(fd, data) :]


def _check(fd: int) -> None:
    # SQLite ignores what follows the last page; some programs let files grow in big steps.
    os.truncate(fd, database_file.check(fd))
