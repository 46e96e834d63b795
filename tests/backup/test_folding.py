"""Any number of LTX files as one snapshot."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from litefs import ltx
from litefs.backup import folding
from litefs.backup.folding import fold
from litefs.errors import LTXError
from litefs.testing import History


def write(folder: Path, files: list[bytes]) -> list[Path]:
    paths = [folder / f"{number:04}.ltx" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return paths


def folded(paths: list[Path]) -> dict[int, bytes]:
    output = io.BytesIO()
    fold(paths, output, compress=True)
    output.seek(0)
    return {pgno: bytes(data) for pgno, data in ltx.Decoder(output)}


def test_more_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "OPEN_FILES", 7)
    history = History()
    files = [history.commit({n % 10 + 1: b"%d" % n}, size=5 if n == 60 else None) for n in range(100)]
    assert folded(write(tmp_path, files)) == history.pages


def test_it_begins_at_the_last_change_of_the_page_size(tmp_path: Path) -> None:
    history = History(512)
    files = [history.commit({1: b"a", 2: b"b"})]
    files.append(history.commit({1: b"c"}, page_size=1024))
    files.append(history.commit({2: b"d"}))
    assert folded(write(tmp_path, files)) == history.pages


def test_a_deleted_database(tmp_path: Path) -> None:
    history = History()
    paths = write(tmp_path, [history.commit({1: b"a"}), history.delete()])
    assert folded(paths) == {}


def test_a_gap(tmp_path: Path) -> None:
    history = History()
    files = [history.commit({1: b"%d" % n}) for n in range(3)]
    del files[1]
    with pytest.raises(LTXError, match="does not follow"):
        folded(write(tmp_path, files))


def test_no_beginning(tmp_path: Path) -> None:
    history = History()
    history.commit({1: b"a"})
    with pytest.raises(LTXError, match="is no snapshot"):
        folded(write(tmp_path, [history.commit({1: b"b"})]))
    with pytest.raises(LTXError, match="nothing to merge"):
        folded([])
