"""A state as a SQLite file, streamed."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from litefs_backup_store.image import write_image
from litefs_backup_store.vault import Vault

PIECE = 256 << 10  # bytes


@dataclass(frozen=True, slots=True)
class Image:
    """A SQLite file that is there for a while.

    Attributes:
        size: bytes.
    """

    path: Path
    size: int

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes."""
        with open(self.path, "rb", buffering=0) as file:
            while piece := await trio.to_thread.run_sync(file.read, PIECE):
                yield piece


@asynccontextmanager
async def as_sqlite(vault: Vault, name: str, *, txid: int = 0, timestamp: int = 0) -> AsyncIterator[Image]:
    """The database as it was; arguments and errors as for `Vault.restore`."""
    with tempfile.TemporaryDirectory(prefix="litefs-cloud-") as scratch:
        path = Path(scratch) / "database"

        def write() -> None:
            with open(f"{path}.ltx", "wb+") as file, open(path, "wb") as target:
                vault.restore(name, file, txid=txid, timestamp=timestamp, compress=False)
                file.seek(0)
                write_image(file, target, lambda _: None)
            Path(f"{path}.ltx").unlink()

        await trio.to_thread.run_sync(write)
        yield Image(path, path.stat().st_size)
