"""What was found out about bytes that come again and again, as heads of messages do.

Clients say the same of themselves with each request, and many an application with each answer: a look at a table costs
a tenth of reading the lines.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 128  # entries of a generation
LONGEST = 4096  # bytes that are worth it; with `MOST` the limit of the memory that is needed


class Memo(Generic[T]):
    """Remembers at least the last `MOST` entries that were of use, and at most twice as many."""

    def __init__(self) -> None:
        self._young: dict[bytes, T] = {}
        self._old: dict[bytes, T] = {}

    def get(self, key: bytes) -> T | None:
        """What was put there; None where that is nothing or was forgotten."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: bytes, value: T) -> None:
        """Remember it, unless the key is too long."""
        if len(key) > LONGEST:
            return
        if len(self._young) >= MOST:
            self._old, self._young = self._young, {}
        self._young[key] = value
