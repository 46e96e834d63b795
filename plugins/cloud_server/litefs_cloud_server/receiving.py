"""Request bodies: of any length, and of clients that may stop in the middle."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from typing import BinaryIO

import trio
from starlette.requests import Request

from litefs_cloud_server.errors import Refused

STALL = 60.0
"""Seconds without a byte after which the client counts as gone."""

BATCH = 1 << 20  # bytes a write


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes in. Raises Refused when nothing comes for too long."""
    body = request.stream()
    while True:
        with trio.move_on_after(STALL) as patience:
            piece = await anext(body, None)
        if patience.cancelled_caught:
            raise Refused(408, "EBADINPUT", f"nothing of the request came for {STALL:.0f} s")
        if piece is None:
            return
        if piece:
            yield piece


async def read(request: Request, limit: int) -> bytes:
    """The whole body. Raises Refused when it has more than so many bytes."""
    found = bytearray()
    async for piece in pieces(request):
        found += piece
        if len(found) > limit:
            raise Refused(413, "EBADINPUT", f"the request has more than {limit} bytes")
    return bytes(found)


async def into(request: Request, file: BinaryIO) -> None:
    """Write the body to an unbuffered file. Raises Refused when there is no room for it."""
    announced = request.headers.get("content-length", "")
    disk = os.statvfs(tempfile.gettempdir())
    if announced.isdigit() and int(announced) > disk.f_bavail * disk.f_frsize:
        raise Refused(507, "EINTERNAL", f"this server has no room for {announced} bytes")
    waiting = bytearray()
    async for piece in pieces(request):
        waiting += piece
        if len(waiting) >= BATCH:
            await trio.to_thread.run_sync(_write, file, bytes(waiting))
            waiting.clear()
    await trio.to_thread.run_sync(_write, file, bytes(waiting))


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
