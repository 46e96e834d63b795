"""Which page numbers may follow each other in an LTX file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from operator import lt

from litefs.ltx.checksum import lock_page
from litefs.ltx.header import Header


class PageOrder:
    """Follows the page numbers of one file: ascending, within the commit size, never the lock page, and without a
    gap in a snapshot.

    Whole batches are checked by a few C calls; the culprit is looked for only where there is one.
    """

    def __init__(self, header: Header) -> None:
        self.last = 0
        self._commit = header.commit
        self._gapless = header.is_snapshot
        self._lock_page = lock_page(header.page_size)

    def accept(self, numbers: Sequence[int]) -> tuple[int, str] | None:
        """Go on with these pages; returns the index of the first that may not follow, and why, or None."""
        if not numbers:
            return None
        if self._fits(numbers):
            self.last = numbers[-1]
            return None
        for index, pgno in enumerate(numbers):
            why = self._problem(pgno)
            if why is not None:
                return index, why
            self.last = pgno
        return None

    def end(self) -> str | None:
        """Return why the file may not end here, or None."""
        missing = self._next()
        if self._gapless and missing <= self._commit:
            return f"a snapshot of {self._commit} pages ends before page {missing}"
        return None

    def _fits(self, numbers: Sequence[int]) -> bool:
        first, last = numbers[0], numbers[-1]
        if first <= self.last or last > self._commit:
            return False
        if not all(map(lt, numbers, islice(numbers, 1, None))):
            return False
        around_lock = first <= self._lock_page <= last
        if around_lock and self._lock_page in numbers:
            return False
        return not self._gapless or (first == self._next() and last - first + 1 == len(numbers) + around_lock)

    def _problem(self, pgno: int) -> str | None:
        if pgno == self._lock_page:
            return f"page {pgno} is SQLite's lock page"
        if pgno > self._commit:
            return f"page {pgno} is beyond the database size of {self._commit} pages"
        if pgno <= self.last:
            return f"page {pgno} after page {self.last}: not in ascending order"
        if self._gapless and pgno != self._next():
            return f"page {pgno} after page {self.last}: a snapshot must hold every page"
        return None

    def _next(self) -> int:
        return self.last + 2 if self.last + 1 == self._lock_page else self.last + 1
