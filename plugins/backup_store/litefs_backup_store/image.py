"""A SQLite file out of a snapshot LTX file. Blocking."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from litefs import ltx
from litefs.ltx import Header, Trailer


def write_image(source: BinaryIO, target: BinaryIO, progress: Callable[[int], object]) -> tuple[Header, Trailer]:
    """Write the database that a snapshot holds; it is whole only if this returns.

    Args:
        progress: told how many more bytes were written.

    Raises:
        LTXError: the snapshot is damaged.
    """
    decoder = ltx.Decoder(source, name="snapshot")
    head = decoder.header
    for pages in decoder.batches():
        for pgno, data in pages:
            target.seek((pgno - 1) * head.page_size)  # the page of the lock bytes is left out: it stays zero
            target.write(data)
        progress(len(pages) * head.page_size)
    target.truncate(head.commit * head.page_size)
    return head, decoder.trailer
