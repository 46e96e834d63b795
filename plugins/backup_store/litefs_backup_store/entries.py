"""The LTX files of a vault: what their keys say, so that nothing has to be read to know what they hold.

    ltx/DATABASE/LEVEL/MIN-MAX-TIMESTAMP-PRE-POST-PAGESIZE[-TAG].ltx

All numbers are hexadecimal; TIMESTAMP, in ms, and POST are those of the last transaction, PRE is the checksum before
the first one. Level 0 holds what nodes sent, and has a TAG that nothing else has: such a file counts only if the
database's head names it. Files of the other levels were merged from those and count as soon as they are there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

from litefs.ltx import EMPTY, Header, Pos, Trailer

FILES = "ltx/"
"""What the keys of all files begin with."""

SENT = 0
SNAPSHOT = 9

_NAME = re.compile(
    r"([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{12})-([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{5})(-[0-9a-f]+)?\.ltx"
)
_LONGEST = 150  # characters of a quoted name; a file system takes 255


def folder_name(database: str) -> str:
    """A database's name as a part of keys; one that is too long is replaced by a hash, its head has it in full."""
    quoted = quote(database.encode("utf-8", "surrogateescape"), safe="")
    if len(quoted) <= _LONGEST and not quoted.startswith("."):
        return quoted
    return "~" + hashlib.sha256(quoted.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """An LTX file of one database.

    Attributes:
        level: 0 for what a node sent, 1 to 3 for merged files, 9 for whole databases.
        timestamp: ms since the epoch, of the last transaction.
        pre, post: checksums before the first transaction and after the last one.
        size: bytes, 0 where it is not known.
    """

    key: str
    level: int
    min_txid: int
    max_txid: int
    timestamp: int
    pre: int
    post: int
    page_size: int
    size: int = 0

    @property
    def before(self) -> Pos:
        """Position that it extends; that of nothing for a snapshot."""
        return Pos(self.min_txid - 1, self.pre)

    @property
    def after(self) -> Pos:
        """Position that it leads to."""
        return Pos(self.max_txid, self.post)

    @property
    def deletes(self) -> bool:
        """Whether the database is gone after it."""
        return self.post == EMPTY


def key_of(database: str, level: int, head: Header, trailer: Trailer, tag: str = "") -> str:
    """The key of an LTX file."""
    name = (
        f"{head.min_txid:016x}-{head.max_txid:016x}-{max(0, head.timestamp):012x}-{head.pre_apply:016x}-"
        f"{trailer.post_apply:016x}-{head.page_size:05x}{'-' if tag else ''}{tag}.ltx"
    )
    return f"{prefix(database)}{level}/{name}"


def prefix(database: str) -> str:
    """What the keys of a database's files begin with."""
    return f"{FILES}{folder_name(database)}/"


def parse(key: str, size: int = 0) -> Entry | None:
    """What a key says; None for one that is no LTX file's."""
    parts = key.rsplit("/", 2)
    match = _NAME.fullmatch(parts[-1])
    if match is None or len(parts) != 3 or not parts[1].isdigit():
        return None
    numbers = [int(group, 16) for group in match.groups()[:6]]
    low, high, timestamp, pre, post, page_size = numbers
    return Entry(key, int(parts[1]), low, high, timestamp, pre, post, page_size, size)
