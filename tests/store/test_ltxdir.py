from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.ltx import filename
from litefs.store.ltxdir import LTXDir, Range


@pytest.fixture
def directory(tmp_path: Path) -> LTXDir:
    return LTXDir(tmp_path / "ltx")


def fill(directory: LTXDir, *items: Range) -> LTXDir:
    directory.path.mkdir(exist_ok=True)
    for item in items:
        directory.file(*item).write_bytes(b"x" * sum(item))
    directory.load()
    return directory


def test_empty(directory: LTXDir) -> None:
    directory.load()
    assert (directory.ranges(), directory.newest(), len(directory), directory.last_size) == ([], None, 0, 0)
    assert directory.since(0) == []
    assert directory.since(3) is None


def test_load(directory: LTXDir) -> None:
    fill(directory, (1, 4), (5, 5), (6, 6), (2, 2))
    (directory.path / "9-0.ltx.tmp").touch()
    (directory.path / "readme").touch()
    directory.load()
    assert directory.ranges() == [(1, 4), (2, 2), (5, 5), (6, 6)]
    assert directory.newest() == (6, 6)
    assert directory.last_size == 12
    assert {path.name for path in directory.path.iterdir()} == {filename(*r) for r in directory.ranges()} | {"readme"}


def test_since(directory: LTXDir) -> None:
    fill(directory, (1, 4), (5, 5), (6, 8), (7, 7), (9, 9))
    assert directory.since(0) == [(1, 4), (5, 5), (6, 8), (9, 9)]
    assert directory.since(4) == [(5, 5), (6, 8), (9, 9)]
    assert directory.since(8) == [(9, 9)]
    assert directory.since(9) == []
    assert directory.since(10) is None
    assert directory.since(2) is None


def test_single(directory: LTXDir) -> None:
    fill(directory, (1, 4), (5, 5), (2, 2), (6, 6))
    assert directory.single(3) is None
    assert directory.single(2) == directory.file(2, 2)
    assert directory.single(6) == directory.file(6, 6)


def test_newest_of_several_that_end_alike(directory: LTXDir) -> None:
    assert fill(directory, (1, 6), (5, 5), (6, 6)).newest() == (1, 6)


def test_set_aside(directory: LTXDir, tmp_path: Path) -> None:
    fill(directory, (1, 2), (3, 3), (4, 4))
    directory.file(3, 3).unlink()
    directory.set_aside(directory.ranges(), tmp_path / "aside" / "branch")
    assert directory.ranges() == []
    assert sorted(os.listdir(tmp_path / "aside" / "branch")) == [filename(1, 2), filename(4, 4)]


def test_expired(directory: LTXDir) -> None:
    fill(directory, (1, 4), (5, 5), (6, 6), (7, 7), (8, 8))
    for item in ((1, 4), (5, 5), (6, 6), (8, 8)):
        os.utime(directory.file(*item), (100, 100))
    assert directory.expired(50, 9) == []
    assert directory.expired(200, 9) == [(1, 4), (5, 5), (6, 6)]
    assert directory.expired(200, 6) == [(1, 4), (5, 5)]
    assert directory.expired(200, 3) == []
    for item in ((1, 4), (5, 5), (6, 6)):
        directory.remove(item)
    assert directory.ranges() == [(7, 7), (8, 8)]
    assert directory.expired(200, 9) == []
    directory.remove((7, 7))
    assert directory.expired(200, 100) == []  # never the newest


singles = st.integers(1, 12).map(lambda txid: (txid, txid))
others = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(st.tuples(st.booleans(), singles | others), max_size=40))
def test_like_a_set(changes: list[tuple[bool, Range]]) -> None:
    directory, model = LTXDir(Path("nowhere")), set[Range]()
    for adds, item in changes:
        if adds:
            directory.add(*item, size=1)
            model.add(item)
        elif item in model:
            directory.forget(item)
            model.discard(item)
        assert directory.ranges() == sorted(model)
        assert len(directory) == len(model)
        assert directory.newest() == (max(model, key=lambda r: (r[1], -r[0])) if model else None)
        assert all((directory.single(txid) is not None) == ((txid, txid) in model) for txid in range(1, 13))
