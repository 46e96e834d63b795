"""One snapshot out of any number of LTX files: what a place that stores transactions gives back. Blocking."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from litefs import ltx
from litefs.errors import LTXError
from litefs.ltx import Header, Pos, Trailer

OPEN_FILES = 200
"""Files merged at a time: a process may have 1024 open, as a rule."""


class Writable(Protocol):
    """Where the result goes; `write` takes everything it is given."""

    def write(self, data: bytes, /) -> object:
        """Write all of it."""


def fold(paths: Sequence[Path], output: Writable, *, compress: bool) -> tuple[Header, Trailer]:
    """Merge the files of consecutive transactions, in order, the first a snapshot, into a snapshot of the last state.

    Memory does not grow with the files; more than `OPEN_FILES` are merged in steps, with temporary files between.
    The result is checked against the checksum that the last file names.

    Raises:
        LTXError: a file is damaged, or they do not follow each other; what was written is worthless.
        OSError: a file could not be read or written.
    """
    if not paths:
        raise LTXError("nothing to merge: no LTX files were given")
    with tempfile.TemporaryDirectory(prefix="litefs-fold-") as scratch:
        files = _last_beginning(paths)
        # Files after a change of the page size hold all pages: the snapshot may begin there.
        if files[0] is paths[0] and not _info(paths[0])[0].is_snapshot:
            raise LTXError(f"{paths[0].name}: is no snapshot")
        while len(files) > OPEN_FILES:
            files = _merge_groups(files, Path(scratch))
        return _merge(files, output, compress=compress, as_snapshot=True)


def _info(path: Path) -> tuple[Header, Trailer]:
    with open(path, "rb") as file:
        return ltx.read_info(file, path.name)


def _last_beginning(paths: Sequence[Path]) -> list[Path]:
    """The files from the last one on that does not build upon those before; without what an earlier one holds."""
    chain: list[Path] = []
    previous: tuple[Header, Trailer] | None = None
    for path in paths:
        head, trailer = _info(path)
        if previous is not None:
            if head.max_txid <= previous[0].max_txid:
                continue
            if head.pos_before != Pos(previous[0].max_txid, previous[1].post_apply):
                raise LTXError(f"{path.name}: does not follow transaction {previous[0].max_txid:016x}")
            if head.page_size != previous[0].page_size or previous[0].commit == 0:
                chain.clear()
        chain.append(path)
        previous = head, trailer
    return chain


def _merge_groups(files: Sequence[Path], scratch: Path) -> list[Path]:
    merged = []
    for start in range(0, len(files), OPEN_FILES):
        group = files[start : start + OPEN_FILES]
        path = scratch / f"{len(list(scratch.iterdir()))}.ltx"
        with open(path, "wb") as file:
            _merge(group, file, compress=False, as_snapshot=False)
        merged.append(path)
    return merged


def _merge(files: Sequence[Path], output: Writable, *, compress: bool, as_snapshot: bool) -> tuple[Header, Trailer]:
    with ExitStack() as stack:
        inputs = [stack.enter_context(open(path, "rb")) for path in files]
        return ltx.compact(inputs, output, compress=compress, as_snapshot=as_snapshot)
