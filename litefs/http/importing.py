"""``POST /import``: replace a database by a SQLite file, all of it or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import trio
from starlette.responses import Response

from litefs.errors import FormatError, ReadOnly
from litefs.http.errors import HTTPError
from litefs.http.exchange import Exchange
from litefs.http.services import Services
from litefs.sqlite.header import HEADER_SIZE, DatabaseHeader
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
    with TemporaryFile(dir=store.data_dir, buffering=0) as file:
        size = await _receive(exchange, file)
        await trio.to_thread.run_sync(check, file.fileno(), size)
        db = await store.database(name, create=True)
        await db.import_database(Path(f"/proc/self/fd/{file.fileno()}"))
    return Response()


async def _receive(exchange: Exchange, file: IO[bytes]) -> int:
    """Write the body to the file; returns its size."""
    size = 0
    pending: list[bytes] = []
    waiting = 0
    async for piece in exchange.chunks():
        pending.append(piece)
        waiting += len(piece)
        if waiting >= BATCH:
            await trio.to_thread.run_sync(_write, file.fileno(), pending)
            size, waiting, pending = size + waiting, 0, []
    await trio.to_thread.run_sync(_write, file.fileno(), pending)
    return size + waiting


def _write(fd: int, pieces: list[bytes]) -> None:
    data = memoryview(b"".join(pieces))
    while data:
        data = data[os.write(fd, data) :]


def check(fd: int, size: int) -> None:
    """Check that a file is one complete SQLite database, and cut off what lies behind its last page. Blocking.

    Raises:
        HTTPError: it is not.
    """
    if size == 0:
        raise HTTPError(500, "read database header: EOF")
    try:
        header = DatabaseHeader.parse(os.pread(fd, HEADER_SIZE, 0))
    except FormatError as error:
        raise HTTPError(500, f"read database header: invalid database header: {error}") from error
    whole, rest = divmod(size, header.page_size)
    pages = header.page_count if header.page_count_valid else whole + (rest > 0)
    if pages > whole:
        raise HTTPError(500, f"read page {whole + 1}: EOF: the file has {size} bytes, not {pages * header.page_size}")
    if size > pages * header.page_size:
        # SQLite ignores what follows the last page; some programs let files grow in big steps.
        os.truncate(fd, pages * header.page_size)
