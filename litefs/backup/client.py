"""What a backup has to provide: the contract between `BackupService` and the plugins that know a place to store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from litefs.errors import LitefsError
from litefs.ltx import Pos


class BackupError(LitefsError):
    """The backup cannot be reached or does not answer as it should; nothing is known to have been stored.

    The message never holds a token.
    """


class DatabaseRefused(BackupError):
    """The backup refuses, or cannot serve, this one database; others may go on."""


class PositionConflict(BackupError):
    """What was handed over does not follow what the backup holds, which stands at ``pos``; nothing was stored."""

    def __init__(self, pos: Pos) -> None:
        super().__init__(f"position mismatch, the backup is at {pos}")
        self.pos = pos


class BackupClient(Protocol):
    """Access to one cluster's backup. Calls come one at a time and may be cancelled at any point.

    A cancelled or failed `write` has stored all of the file or nothing of it; `positions` tells. One that checks its
    content at times has an attribute ``verification``, the last `Verification` or None.
    """

    @property
    def url(self) -> str:
        """Where it is, for the log; without secrets."""

    async def positions(self) -> dict[str, Pos]:
        """Where each database stands, deleted ones included. Raises BackupError."""

    async def write(self, name: str, ltx: AsyncIterator[bytes]) -> int:
        """Store an LTX file; the high-water mark: the TXID up to which this database is stored durably.

        The file follows the database's position exactly, or is a snapshot of one that the backup does not have.

        Args:
            name: of the database.
            ltx: the bytes of the file, in pieces of any size. Raises what prevents it from being completed.

        Raises:
            PositionConflict: it does not follow.
            DatabaseRefused, BackupError: nothing was stored.
        """

    def snapshot(self, name: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The newest state of a database as the bytes of a snapshot LTX file; without pages if it was deleted.

        Raises, on entering or while reading: DatabaseRefused when there is no such database; BackupError.
        """

    async def aclose(self) -> None:
        """Free connections."""
