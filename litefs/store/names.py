"""Names of the mount: which database a file belongs to, and what it is to it."""

from __future__ import annotations

import re
from enum import Enum

from litefs.errors import BadName


class Kind(Enum):
    """What a file in the mount is to its database. The value is the suffix of its name."""

    DATABASE = ""
    JOURNAL = "-journal"
    WAL = "-wal"
    SHM = "-shm"
    POS = "-pos"
    LOCK = "-lock"
    SUPER = "-mj"  # super-journal of a transaction over several databases: an ordinary local file


RESERVED = frozenset({".", "..", ".primary", ".lag"})
MAX_LENGTH = 255 - len(Kind.JOURNAL.value)  # bytes; NAME-journal must still be a file name

_SUFFIXES = (Kind.JOURNAL, Kind.WAL, Kind.SHM, Kind.POS, Kind.LOCK)
_SUPER = re.compile(r"^(?P<db>.+)-mj[0-9A-Fa-f]{9}$", re.DOTALL)


def split(name: str) -> tuple[str, Kind]:
    """Database name and kind of a file name of the mount."""
    for kind in _SUFFIXES:
        if name.endswith(kind.value) and len(name) > len(kind.value):
            return name[: -len(kind.value)], kind
    match = _SUPER.match(name)
    if match:
        return match["db"], Kind.SUPER
    return name, Kind.DATABASE


def check_name(name: str) -> str:
    """The name, if it can name a database.

    Raises:
        BadName: it is empty, too long, a path, reserved, or the name of a database's side file.
    """
    if not name:
        raise BadName("name required")
    if "/" in name or "\0" in name or name in RESERVED:
        raise BadName(f"invalid database name: {name!r}", "use a plain file name")
    if _length(name) > MAX_LENGTH:
        raise BadName(f"database name is too long: {name[:40]!r}...", f"use at most {MAX_LENGTH} bytes")
    if split(name)[1] is not Kind.DATABASE:
        raise BadName(f"invalid database name: {name!r}", f"{split(name)[1].value} names a side file of a database")
    return name


def _length(name: str) -> int:
    """Bytes of a file name.  Raises `BadName` for what no file can be called."""
    try:
        return len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise BadName(f"invalid database name: {name!r}", "it cannot be written in UTF-8") from None
