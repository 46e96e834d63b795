"""A vault as the backup of a node."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path

import trio

from litefs.backup import BackupError, DatabaseRefused, Verification
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs.replication.incoming import verifier
from litefs.replication.pipes import FromThread, Output, ToThread
from litefs_backup_store.caretaker import Caretaker
from litefs_backup_store.levels import Levels
from litefs_backup_store.objects import Damaged, ObjectMissing
from litefs_backup_store.vault import Vault
from litefs_backup_store.verifier import Verifier

LIMIT = 24 * 3600.0
"""Seconds for a snapshot to be read."""


class VaultClient:
    """A `litefs.backup.BackupClient`: becomes the vault's writer with its first look, and looks after it.

    Args:
        verifier: reads everything at times, if that is wanted.
    """

    def __init__(self, vault: Vault, levels: Levels | None = None, verifier: Verifier | None = None) -> None:
        self._vault = vault
        self._verifier = verifier
        self._caretaker = Caretaker(vault, levels or Levels())
        self._claimed = False

    @property
    def url(self) -> str:
        """Where the vault is."""
        return self._vault.objects.url

    @property
    def verification(self) -> Verification | None:
        """What came of reading everything the last time."""
        return self._verifier.last if self._verifier is not None else None

    async def positions(self) -> dict[str, Pos]:
        """Where every database stands."""
        found = await trio.to_thread.run_sync(self._positions)
        if not self._claimed:
            self._claimed = True
            self._caretaker.start(found)
            if self._verifier is not None:
                self._verifier.start()
        return found

    def _positions(self) -> dict[str, Pos]:
        if not self._claimed:
            self._vault.claim()
        else:
            self._vault.check_writer()
        return self._vault.positions()

    async def write(self, name: str, ltx: AsyncIterator[bytes]) -> int:
        """Store a file."""
        if not self._claimed:
            await self.positions()
        pipe = ToThread(partial(receive, self._vault, name))
        try:
            async for piece in ltx:
                await pipe.put(piece)
            pos = await pipe.finish()
        finally:
            await pipe.aclose()
        self._caretaker.touched(name)
        return pos.txid

    @asynccontextmanager
    async def snapshot(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The newest state."""
        async with restored(self._vault, name) as pieces:
            yield pieces

    async def aclose(self) -> None:
        """Stop looking after the vault."""
        self._caretaker.close()
        if self._verifier is not None:
            self._verifier.close()
        self._vault.objects.close()


def receive(
    vault: Vault, name: str, read: Callable[[int], bytes], *, lock: AbstractContextManager[object] | None = None
) -> Pos:
    """Verify a file while it comes in, then store it; the new position. Runs in a worker.

    Args:
        lock: held while it is stored, not while it comes in.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="litefs-upload-") as scratch:
            path = Path(scratch) / "upload.ltx"
            header, trailer = verifier(path, name)(read)
            with lock or nullcontext():
                return vault.append(name, path, header, trailer)
    except LTXError as error:
        raise DatabaseRefused(str(error)) from error
    except OSError as error:
        raise BackupError(f"cannot keep an upload: {error.strerror or error}") from error


@asynccontextmanager
async def restored(
    vault: Vault, name: str, *, txid: int = 0, timestamp: int = 0
) -> AsyncIterator[AsyncIterator[bytes]]:
    """A state, by default the newest, as the bytes of a snapshot LTX file; arguments as for `Vault.restore`."""

    def produce(write: Callable[[bytes | memoryview], None]) -> None:
        try:
            vault.restore(name, Output(write), txid=txid, timestamp=timestamp)
        except (Damaged, ObjectMissing) as error:
            raise DatabaseRefused(error.message, error.hint) from error

    pipe = FromThread(produce, limit=LIMIT)
    try:
        yield pipe
    finally:
        await pipe.aclose()
