"""Databases to and from a node: what ``litefs import`` and ``litefs export`` share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Self

import httpx

from litefs.cli.api import NodeAPI, check, transfer_errors
from litefs.errors import DatabaseNotFound

PIECE = 1 << 20  # bytes per read and write: 2.2 GB/s to a node on loopback, 1.7 from it

Progress = Callable[[int], None]
"""Told how many more bytes have been transferred."""

# No limit for the answer to an import: the node writes the whole database before it answers.
_TIMEOUT = httpx.Timeout(60.0, read=None)


class Transfers(NodeAPI):
    """A node's API with databases in it."""

    def __enter__(self) -> Self:
        return self

    def import_database(self, name: str, file: BinaryIO, size: int, progress: Progress) -> None:
        """Replace a database by `size` bytes of a file. Raises APIError."""

        def pieces() -> Iterator[bytes]:
            left = size
            while left and (piece := file.read(min(left, PIECE))):
                yield piece
                progress(len(piece))
                left -= len(piece)

        headers = {"Content-Length": str(size)}
        with transfer_errors(self.url):
            response = self._client.post(
                "/import", params={"name": name}, content=pieces(), headers=headers, timeout=_TIMEOUT
            )
            check(response)

    def export_database(self, name: str, file: BinaryIO, start: Callable[[int | None], Progress]) -> None:
        """Write a database to a file.

        Args:
            start: told the size in bytes, None if the node does not say, before the first byte.

        Raises:
            DatabaseNotFound, APIError: the file may hold a part of the database.
        """
        with (
            transfer_errors(self.url),
            self._client.stream("GET", "/export", params={"name": name}, timeout=_TIMEOUT) as response,
        ):
            if response.status_code == 404:
                raise DatabaseNotFound(name)
            check(response)
            length = response.headers.get("content-length", "")
            progress = start(int(length) if length.isdigit() else None)
            for piece in response.iter_raw():
                file.write(piece)
                progress(len(piece))


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int | None], Progress]]:
    """A bar on a terminal, nothing elsewhere. Yields what is told the size and returns what is told of progress."""
    if not sys.stderr.isatty():
        yield lambda _: lambda _: None
        return
    from rich.console import Console  # late: takes 0.1 s to load
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:

        def start(size: int | None) -> Callable[[int], None]:
            task = bar.add_task(title, total=size)
            return lambda more: bar.advance(task, more)

        yield start


def duration(seconds: float) -> str:
    """A time as LiteFS prints it: ``12.345ms``, ``1.234s``, ``2m3.4s``."""
    if seconds < 1:
        return f"{seconds * 1000:.3f}ms"
    if seconds < 60:
        return f"{seconds:.3f}s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.1f}s"
