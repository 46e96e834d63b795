"""Where commits wait while the right to make them is on its way to another node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Gate:
    """Open, or closed for a moment.

    Every commit passes it in its last step before it is captured: its writer waits inside a write to the mount,
    with SQLite's lock held, and has been told nothing. While the gate is closed no position moves but by what a primary
    elsewhere sends. Behind it a commit looks once more whether it may be.
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
