from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litefs.errors import LTXError
from litefs.ltx import CHECKSUM_FLAG, EMPTY, Decoder, Header, compact, database_checksum, encode, page_checksum, verify

Pages = dict[int, bytes]

SIZE = 512


def _page(tag: int) -> bytes:
    return tag.to_bytes(4, "big") * (SIZE // 4)


def _checksum(pages: Pages) -> int:
    return database_checksum(page_checksum(pgno, data) for pgno, data in pages.items())


def _history(transactions: Sequence[tuple[int, Pages]], first: int = 1) -> tuple[list[bytes], Pages]:
    """LTX files of ``(commit, changed pages)``, and the database at their end."""
    files, database, pre_apply = list[bytes](), Pages(), 0 if first == 1 else EMPTY
    for txid, (commit, changes) in enumerate(transactions, first):
        database = {pgno: data for pgno, data in (database | changes).items() if pgno <= commit}
        post_apply = _checksum(database)
        header = Header(SIZE, commit, txid, txid, timestamp=txid * 10, pre_apply=pre_apply, node_id=4)
        header = replace(header, wal_offset=32, wal_size=536, salt1=1, salt2=2, flags=txid & 1)
        files.append(encode(header, sorted(changes.items()), post_apply))
        pre_apply = post_apply
    return files, database


def _compact(files: Sequence[bytes], *, compress: bool = False) -> tuple[Header, Pages]:
    output = io.BytesIO()
    header, trailer = compact([io.BytesIO(data) for data in files], output, compress=compress)
    assert verify(io.BytesIO(output.getvalue())) == (header, trailer)
    return header, dict(Decoder(io.BytesIO(output.getvalue())))


@pytest.mark.parametrize("compress", [False, True])
def test_newest_page_wins(compress: bool) -> None:
    files, _ = _history(
        [(3, {1: _page(1), 2: _page(2), 3: _page(3)}), (4, {2: _page(12), 4: _page(14)}), (4, {2: _page(22)})]
    )
    header, pages = _compact(files, compress=compress)
    assert header == Header(SIZE, 4, 1, 3, flags=int(compress), timestamp=30)
    assert pages == {1: _page(1), 2: _page(22), 3: _page(3), 4: _page(14)}


def test_increments_stay_an_increment() -> None:
    files, _ = _history([(9, {3: _page(1)}), (9, {5: _page(2), 9: _page(3)})], first=7)
    header, pages = _compact(files)
    assert header == Header(SIZE, 9, 7, 8, timestamp=80, pre_apply=EMPTY)
    assert pages == {3: _page(1), 5: _page(2), 9: _page(3)}


def test_one_file_is_copied_without_its_origin() -> None:
    files, _ = _history([(1, {1: _page(1)})])
    header, pages = _compact(files)
    assert header == Header(SIZE, 1, 1, 1, timestamp=10)
    assert pages == {1: _page(1)}


def test_order_of_the_inputs_is_free() -> None:
    files, database = _history([(n, {n: _page(n)}) for n in range(1, 6)])
    assert _compact(files[::-1])[1] == database


def test_pages_beyond_the_final_size_are_dropped() -> None:
    files, database = _history([(3, {n: _page(n) for n in (1, 2, 3)}), (1, {1: _page(9)})])
    assert _compact(files)[1] == database == {1: _page(9)}


def test_pages_that_were_cut_off_do_not_come_back() -> None:
    files, _ = _history([(9, {5: _page(5), 6: _page(6)}), (4, {1: _page(1)}), (6, {6: _page(66)})], first=2)
    assert _compact(files)[1] == {1: _page(1), 5: bytes(SIZE), 6: _page(66)}


def test_deletion_and_creation() -> None:
    files, database = _history([(2, {1: _page(1), 2: _page(2)}), (0, {}), (1, {1: _page(3)})])
    assert _compact(files)[1] == database
    header, pages = _compact(files[:2])
    assert (header.commit, pages) == (0, {})


def test_nothing_to_compact() -> None:
    with pytest.raises(LTXError, match="nothing to compact"):
        compact([], io.BytesIO(), compress=False)


def test_a_missing_transaction_is_refused() -> None:
    files, _ = _history([(n, {n: _page(n)}) for n in range(1, 5)])
    with pytest.raises(LTXError, match="transaction 0000000000000003 does not follow 0000000000000001"):
        _compact([files[0], *files[2:]])
    with pytest.raises(LTXError, match="transaction 0000000000000001 does not follow 0000000000000001"):
        _compact([files[0], files[0]])


def test_a_break_in_the_checksums_is_refused() -> None:
    files, _ = _history([(1, {1: _page(1)}), (1, {1: _page(2)})])
    other, _ = _history([(1, {1: _page(3)})])
    with pytest.raises(LTXError, match="starts from checksum"):
        _compact([other[0], files[1]])


def test_other_page_sizes_are_refused() -> None:
    files, _ = _history([(1, {1: _page(1)})])
    second = encode(Header(1024, 1, 2, 2, pre_apply=CHECKSUM_FLAG), [], CHECKSUM_FLAG)
    with pytest.raises(LTXError, match="pages of 1024 bytes"):
        _compact([files[0], second])


def test_damage_is_refused_not_skipped() -> None:
    files, _ = _history([(1, {1: _page(1)}), (1, {1: _page(2)})])
    for bad in (b"", b"LTX1", files[1][:-1], files[1][:200] + b"?" + files[1][201:]):
        with pytest.raises(LTXError, match="at byte"):
            _compact([files[0], bad])


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[int, Pages]]:
    transactions, size = list[tuple[int, Pages]](), 0
    for tag in range(draw(st.integers(1, 6))):
        commit = draw(st.integers(0, 200))
        changed = draw(st.sets(st.integers(1, commit), max_size=40)) if commit else set[int]()
        changed |= set(range(size + 1, commit + 1))
        transactions.append((commit, {pgno: _page(pgno * 10 + tag) for pgno in changed}))
        size = commit
    return transactions


@settings(deadline=None)
@given(_histories(), st.integers(1, 8), st.booleans())
def test_compacting_is_the_same_as_replaying(transactions: list[tuple[int, Pages]], cut: int, compress: bool) -> None:
    files, database = _history(transactions)
    assert _compact(files, compress=compress)[1] == database
    # Merging merged files gives the same again.
    parts = [part for part in (files[:cut], files[cut:]) if part]
    outputs = [io.BytesIO() for _ in parts]
    for part, output in zip(parts, outputs, strict=True):
        compact([io.BytesIO(data) for data in part], output, compress=compress)
    assert _compact([output.getvalue() for output in outputs])[1] == database
