from __future__ import annotations

import pytest

from litefs.ltx import CHECKSUM_FLAG, Header, lock_page
from litefs.ltx.order import PageOrder

LOCK = lock_page(65536)


def _order(commit: int, *, snapshot: bool = False) -> PageOrder:
    pre_apply = 0 if snapshot else CHECKSUM_FLAG
    return PageOrder(Header(65536, commit, 1 if snapshot else 2, 2, pre_apply=pre_apply))


def test_ascending_pages_may_have_gaps() -> None:
    order = _order(10)
    assert order.accept([1, 3]) is None
    assert order.accept([]) is None
    assert order.accept([4, 10]) is None
    assert order.end() is None


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ([3], (0, "page 3 after page 3: not in ascending order")),
        ([4, 4], (1, "page 4 after page 4: not in ascending order")),
        ([5, 4, 6], (1, "page 4 after page 5: not in ascending order")),
        ([4, 11], (1, "page 11 is beyond the database size of 10 pages")),
        ([0], (0, "page 0 after page 3: not in ascending order")),
    ],
)
def test_disorder_is_named(numbers: list[int], problem: tuple[int, str]) -> None:
    order = _order(10)
    assert order.accept([3]) is None
    assert order.accept(numbers) == problem


def test_lock_page_is_refused() -> None:
    assert _order(LOCK + 5).accept([LOCK - 1, LOCK]) == (1, f"page {LOCK} is SQLite's lock page")


def test_lock_page_is_left_out() -> None:
    assert _order(LOCK + 5).accept([LOCK - 1, LOCK + 1]) is None


def test_snapshot_holds_every_page() -> None:
    order = _order(5, snapshot=True)
    assert order.accept([1, 2]) is None
    assert order.end() == "a snapshot of 5 pages ends before page 3"
    assert order.accept([3, 4, 5]) is None
    assert order.end() is None


def test_snapshot_has_no_gaps() -> None:
    why = "page 4 after page 2: a snapshot must hold every page"
    order = _order(5, snapshot=True)
    assert order.accept([1, 2, 4, 5]) == (2, why)
    order = _order(5, snapshot=True)
    assert order.accept([1, 2]) is None
    assert order.accept([4, 5]) == (0, why)


@pytest.mark.parametrize("cut", [LOCK - 3, LOCK - 2, LOCK - 1, LOCK, LOCK + 1])
def test_snapshot_skips_the_lock_page_only(cut: int) -> None:
    order = _order(LOCK + 2, snapshot=True)
    numbers = [pgno for pgno in range(1, LOCK + 3) if pgno != LOCK]
    assert order.accept(numbers[:cut]) is None
    assert order.accept(numbers[cut:]) is None
    assert order.end() is None


def test_snapshot_may_end_with_the_lock_page() -> None:
    order = _order(LOCK, snapshot=True)
    assert order.accept(range(1, LOCK)) is None
    assert order.end() is None
