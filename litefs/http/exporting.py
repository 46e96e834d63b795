"""``GET /export``: a consistent copy of a database while it is being written to."""

from __future__ import annotations

from collections.abc import Iterator

import trio
from starlette.responses import Response

from litefs.errors import DatabaseNotFound
from litefs.http.errors import HTTPError
from litefs.http.exchange import Exchange, Write
from litefs.http.services import Services

BATCH = 256 << 10  # bytes: 2.2 GB/s; 1 MiB makes that 4, but holds up the event loop, and commits, for 0.3 ms

# Seconds that an HTTP/2 client may leave the stream's window shut (over HTTP/1.1 the connection has its own limit):
# the snapshot keeps the WAL from being checkpointed meanwhile, or writers out where there is none.
STALL = 30.0

Batches = Iterator[tuple[int, bytes]]


async def export(exchange: Exchange, services: Services) -> Response | None:
    """Stream the database file as it was when the request came."""
    name = exchange.param("name")
    if not name:
        raise HTTPError(400, "name required")
    db = await services.store.database(name)
    if not db.commit:
        raise DatabaseNotFound(name)  # deleted, or never written
    async with db.snapshot() as snapshot:
        page_size, size = snapshot.page_size, snapshot.page_size * snapshot.commit
        batches = snapshot.pages(max(1, BATCH // page_size))
        async with exchange.respond("application/octet-stream", size) as write:
            await _copy(batches, page_size, size, write)
    return None


async def _copy(batches: Batches, page_size: int, size: int, write: Write) -> None:
    done = 0
    while batch := await trio.to_thread.run_sync(next, batches, None):
        first, data = batch
        await _write_zeros(write, (first - 1) * page_size - done)
        await _write_in_time(write, data)
        done = (first - 1) * page_size + len(data)
    await _write_zeros(write, size - done)


async def _write_zeros(write: Write, size: int) -> None:
    """The lock page of a database over 1 GiB: SQLite never uses it, and no snapshot has it."""
    if size:
        await _write_in_time(write, bytes(size))


async def _write_in_time(write: Write, data: bytes) -> None:
    with trio.move_on_after(STALL) as scope:
        await write(data)
    if scope.cancelled_caught:
        raise HTTPError(500, f"the client has not read for {STALL:.0f} s")
