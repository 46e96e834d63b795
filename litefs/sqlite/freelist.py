"""The list of unused pages of a database file: trunk pages, chained from page 1, that name leaf pages.

What is on a leaf means nothing. SQLite does not put its content into the rollback journal when it uses the page again,
so it is the one thing that playing a journal back does not restore.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from litefs.errors import FormatError
from litefs.sqlite.header import HEADER_SIZE, DatabaseHeader

_FIRST = Struct(">II")  # at byte 32 of page 1: first trunk page, number of unused pages
_TRUNK = Struct(">II")  # next trunk page, number of leaves


def leaves(read: Callable[[int], bytes]) -> set[int]:
    """Leaf pages of the list, as far as it makes sense.

    Args:
        read: content of a page; b"" where there is none.
    """
    first = read(1)
    try:
        header = DatabaseHeader.parse(first[:HEADER_SIZE])
    except FormatError:
        return set()
    trunk, count = _FIRST.unpack_from(first, 32)
    found: set[int] = set()
    visited: set[int] = set()
    while trunk and trunk not in visited and len(found) + len(visited) < count:
        visited.add(trunk)
        page = read(trunk)
        if len(page) < header.page_size:
            break
        trunk, number = _TRUNK.unpack_from(page)
        number = min(number, header.page_size // 4 - 2)
        found.update(int.from_bytes(page[at : at + 4], "big") for at in range(8, 8 + 4 * number, 4))
    return found
