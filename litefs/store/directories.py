"""Directories in which names have come or gone, until that is durable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio


class Directories:
    """Those of one store, each with what makes its names durable."""

    def __init__(self) -> None:
        self._changed: dict[Path, Callable[[], None]] = {}
        self._syncing = trio.Lock()

    def changed(self, path: Path, sync: Callable[[], None]) -> None:
        """A name came or went; `sync`, which blocks, makes that durable."""
        self._changed[path] = sync

    def forget(self, path: Path) -> None:
        """Nothing in it matters any more."""
        self._changed.pop(path, None)

    async def sync(self) -> None:
        """Return when everything is durable that changed before.

        Raises:
            OSError: the disk failed; the next call tries again.
        """
        async with self._syncing:  # another task may be at what this one waits for
            for path, sync in list(self._changed.items()):
                self._changed.pop(path, None)
                try:
                    await trio.to_thread.run_sync(sync)
                except BaseException:
                    self._changed.setdefault(path, sync)
                    raise
