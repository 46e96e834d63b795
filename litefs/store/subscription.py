"""Waiting for databases to move: what a replication stream or a backup does between two transactions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import trio


class Subscription:
    """Names of databases whose published position has moved. Never holds more than one entry a database."""

    def __init__(self, names: Collection[str] | None) -> None:
        self._wanted = None if names is None else frozenset(names)
        self._moved: set[str] = set()
        self._event = trio.Event()

    def notify(self, name: str) -> None:
        """A database has moved."""
        if self._wanted is None or name in self._wanted:
            self._moved.add(name)
            self._event.set()

    async def wait(self) -> set[str]:
        """Names that have moved since the last call; waits for one."""
        while not self._moved:
            await self._event.wait()
            self._event = trio.Event()
        moved, self._moved = self._moved, set()
        self._event = trio.Event()
        return moved


class Subscriptions:
    """Everyone who waits."""

    def __init__(self) -> None:
        self._all: set[Subscription] = set()

    def __len__(self) -> int:
        return len(self._all)

    def notify(self, name: str) -> None:
        """Tell everyone who wants to know that a database has moved."""
        for subscription in self._all:
            subscription.notify(name)

    @contextmanager
    def open(self, names: Collection[str] | None) -> Iterator[Subscription]:
        """A subscription for the names, or for every database."""
        subscription = Subscription(names)
        self._all.add(subscription)
        try:
            yield subscription
        finally:
            self._all.discard(subscription)
