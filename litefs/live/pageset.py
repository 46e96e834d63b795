"""What a database should become, and the error of not getting the locks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from litefs.errors import LitefsError


@dataclass(frozen=True, slots=True)
class PageSet:
    """The pages that a transaction or a snapshot writes.

    ``pages`` starts a fresh iteration: ``(page number, page)`` in ascending order of page numbers, each number at
    most once, the lock page never. It may read a file; it is drained once, under the database's locks.

    ``commit`` is the size of the database afterwards, in pages. 0 means that the database is deleted.
    """

    page_size: int
    commit: int
    pages: Callable[[], Iterator[tuple[int, bytes]]]


class Busy(LitefsError):
    """Other users of the database kept a lock past the deadline. Nothing was changed."""
