"""``/halt`` and ``/tx``: another node becomes the only writer of a database, and sends its transactions."""

from __future__ import annotations

import io
import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from starlette.responses import Response

from litefs.errors import DatabaseBusy, DatabaseNotFound, HaltError, LTXError, PositionMismatch
from litefs.http.errors import HTTPError
from litefs.http.exchange import Exchange
from litefs.http.services import Services
from litefs.ltx import HEADER_SIZE, TRAILER_SIZE, Header, Trailer, format_checksum, format_txid, verify
from litefs.store.names import check_name

if TYPE_CHECKING:
    from litefs.store import Database

BATCH = 1 << 20  # bytes of a body that are written to disk together
PROLONG = "litefs-halt"
"""Header of our own nodes: asked with "prolong" the halt lasts longer with each request, and the answer says so."""

_LOCK_ID = re.compile(r"[+-]?[0-9]{1,19}")


async def acquire(exchange: Exchange, services: Services) -> Response:
    """Halt a database for the node that asks; the same again is answered with the halt that is there."""
    lock_id = _lock_id(exchange, "id")
    _check_not_self(exchange, services, "cannot remotely halt self")
    name = _name(exchange)
    prolong = exchange.headers.get(PROLONG) == "prolong"
    found: list[Response] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_for_disconnect, exchange, nursery.cancel_scope)
        try:
            halt, left = await services.halts.acquire(name, lock_id, exchange.peer_id, prolong=prolong)
        except (HaltError, DatabaseBusy) as error:
            raise HTTPError(500, f"acquire halt lock: {error}") from error
        body = {
            "id": halt.lock_id,
            "pos": {"TXID": format_txid(halt.pos.txid), "PostApplyChecksum": format_checksum(halt.pos.checksum)},
            "expires": (datetime.now(UTC) + timedelta(seconds=left)).isoformat().replace("+00:00", "Z"),
        }
        headers = {PROLONG: "prolonged"} if prolong else {}
        text = json.dumps(body, separators=(",", ":")) + "\n"
        found.append(Response(text, headers=headers, media_type="application/json"))
        nursery.cancel_scope.cancel()
    if not found:
        await services.halts.release(name, lock_id)  # whoever asked is gone, and would not know that he has it
        raise HTTPError(500, "acquire halt lock: the client has gone away")
    return found[0]


async def release(exchange: Exchange, services: Services) -> Response:
    """End a halt. Nothing happens if another one is on."""
    lock_id = _lock_id(exchange, "id")
    _check_not_self(exchange, services, "cannot remotely unhalt self")
    name = _name(exchange)
    try:
        await services.halts.release(name, lock_id)
    except DatabaseNotFound as error:
        raise HTTPError(404, str(error)) from error
    return Response()


async def write(exchange: Exchange, services: Services) -> Response:
    """Receive a transaction of the node that holds the halt, and commit it."""
    _check_not_self(exchange, services, "cannot remotely halt self")
    name = _name(exchange)
    try:
        db = await services.store.database(name)
    except DatabaseNotFound as error:
        raise HTTPError(404, str(error)) from error
    lock_id, node_id = _lock_id(exchange, "lockID"), exchange.peer_id
    try:
        services.halts.holder(name, lock_id, node_id)
    except HaltError as error:
        raise HTTPError(500, f"cannot apply ltx: {error}") from error
    path = db.ltx_dir.temporary()
    try:
        try:
            header, trailer = await _receive(exchange, db, path)
        except (LTXError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise HTTPError(500, f"write ltx file: {reason}") from error
        try:
            with trio.CancelScope(shield=True):  # from here on it happens or it does not, whoever listens
                await services.halts.write(name, lock_id, node_id, path, header, trailer)
        except (HaltError, PositionMismatch, DatabaseBusy, LTXError) as error:
            raise HTTPError(500, f"cannot apply ltx: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
    return Response()


# ------------------------------------------------------------------------------------------------------ parameters


def _lock_id(exchange: Exchange, key: str) -> int:
    text = exchange.param(key)
    if not _LOCK_ID.fullmatch(text) or not -(1 << 63) <= int(text) < 1 << 63:
        raise HTTPError(400, f'invalid id: "{text}"')
    return int(text)


def _check_not_self(exchange: Exchange, services: Services, message: str) -> None:
    if exchange.peer_id == services.store.node_id:
        raise HTTPError(400, message)


def _name(exchange: Exchange) -> str:
    return check_name(exchange.param("name"))


async def _watch_for_disconnect(exchange: Exchange, scope: trio.CancelScope) -> None:
    await exchange.drain()
    while (await exchange.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


# ------------------------------------------------------------------------------------------------------------ body


async def _receive(exchange: Exchange, db: Database, path: Path) -> tuple[Header, Trailer]:
    """Write the body to a file, durably, and verify it: a small one in one go.

    Raises:
        LTXError: it is no whole LTX file, or longer than what its header announces can be.
        OSError: the disk failed.
    """
    pending, size, limit = bytearray(), 0, HEADER_SIZE
    name = f'transaction for "{db.name}"'
    async for piece in exchange.chunks():
        if size < HEADER_SIZE <= size + len(piece):
            limit = _limit(Header.decode(bytes(pending + piece)[:HEADER_SIZE], name))
        pending += piece
        size += len(piece)
        if size >= HEADER_SIZE and size > limit:
            raise LTXError(f"{name}: longer than {limit} bytes, which its header allows")
        if len(pending) >= BATCH:
            await trio.to_thread.run_sync(_append, path, bytes(pending))
            pending.clear()
    return await trio.to_thread.run_sync(_finish, path, bytes(pending), size, name)


def _limit(header: Header) -> int:
    """Bytes that a transaction file may have: all pages, and a little where compression does not help."""
    pages = 4 + header.commit * (4 + header.page_size)
    return HEADER_SIZE + pages + pages // 128 + BATCH + TRAILER_SIZE


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab", buffering=0) as file:
        _write_all(file, data)


def _finish(path: Path, data: bytes, size: int, name: str) -> tuple[Header, Trailer]:
    with open(path, "a+b", buffering=0) as file:
        _write_all(file, data)
        file.seek(0)
        whole = io.BytesIO(data) if len(data) == size else file
        header, trailer = verify(whole, name)
        if os.pread(file.fileno(), TRAILER_SIZE, size - TRAILER_SIZE) != trailer.encode():
            raise LTXError(f"{name}: there are bytes after the trailer")
        os.fdatasync(file.fileno())
    return header, trailer


def _write_all(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
