"""Whether a file that came over the network is one whole SQLite database."""

from __future__ import annotations

import os

from litefs.errors import FormatError
from litefs.sqlite.header import HEADER_SIZE, DatabaseHeader


def check(fd: int) -> int:
    """Bytes of the database in a file; what follows its last page does not belong to it. Blocking.

    Raises:
        FormatError: it is no database, or ends too early; in LiteFS's words as far as it has some.
    """
    size = os.fstat(fd).st_size
    if size == 0:
        raise FormatError("read database header: EOF")
    try:
        header = DatabaseHeader.parse(os.pread(fd, HEADER_SIZE, 0))
    except FormatError as error:
        raise FormatError(f"read database header: invalid database header: {error}") from error
    whole, rest = divmod(size, header.page_size)
    pages = header.page_count if header.page_count_valid else whole + (rest > 0)
    if pages > whole:
        raise FormatError(f"read page {whole + 1}: EOF: the file has {size} bytes, not {pages * header.page_size}")
    return pages * header.page_size
