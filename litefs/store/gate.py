"""Where commits wait: their right is on its way to another node, or a transaction from elsewhere is arriving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Gate:
    """Open, or closed for a moment.

    The writer of a commit that has to wait does so inside a write to the mount, with SQLite's lock held, and has been
    told nothing.

    The store has one, which a commit passes in its last step before it is captured: while it is closed no position
    moves but by what a primary elsewhere sends. Behind it a commit looks once more whether it may be.

    Each database has one, which a commit passes in its first step: SQLite's lock is given back by the client process a
    moment before this process hears of it, and only then is the position that of the transaction that was applied.
    """

    def __init__(self) -> None:
        self._opened: trio.Event | None = None

    @property
    def closed(self) -> bool:
        """Whether commits have to wait."""
        return self._opened is not None

    async def passing(self) -> None:
        """Wait while it is closed. When it is open this is no checkpoint: nothing else runs meanwhile."""
        while self._opened is not None:
            await self._opened.wait()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Closed inside the block. One at a time."""
        assert self._opened is None
        self._opened = trio.Event()
        try:
            yield
        finally:
            opened, self._opened = self._opened, None
            opened.set()
