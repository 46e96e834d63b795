"""How many of something are under way, for those who wait for the last of them."""

from __future__ import annotations

import trio


class UnderWay:
    """Counts what is done in its ``with`` blocks.  Costs next to nothing while nobody waits."""

    def __init__(self) -> None:
        self._count = 0
        self._over: trio.Event | None = None  # there is one while somebody waits

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count and self._over is not None:
            self._over.set()
            self._over = None

    async def none(self) -> None:
        """Return when nothing is."""
        while self._count:
            if self._over is None:
                self._over = trio.Event()
            await self._over.wait()
