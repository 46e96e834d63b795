"""Header (100 bytes) and trailer (16 bytes) of an LTX file, version 1; all integers are big-endian."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from litefs.errors import LTXError
from litefs.ltx.checksum import CHECKSUM_FLAG, EMPTY, Data
from litefs.ltx.position import Pos

HEADER_SIZE = 100
TRAILER_SIZE = 16
MAGIC = b"LTX1"
FLAG_LZ4 = 1
"""The page block is one LZ4 frame."""

MIN_PAGE_SIZE = 512
MAX_PAGE_SIZE = 65536
MAX_TIME = 253_402_300_799_999
"""The end of the year 9999, in ms since the epoch: what calendars and file times can still show.

The format allows more; nothing here lets it in.
"""

_MAX_U32 = (1 << 32) - 1
_MAX_U64 = (1 << 64) - 1
_MAX_I64 = (1 << 63) - 1
_HEADER = Struct(">4sIIIQQqQqqIIQ20s")
_TRAILER = Struct(">QQ")
_ZERO20 = bytes(20)


@dataclass(frozen=True, slots=True)
class Header:
    """What an LTX file says before its pages.

    ``commit`` is the database size in pages after the transaction, 0 for a deletion. ``timestamp`` counts
    milliseconds since 1970. ``pre_apply`` is the database checksum before, 0 for a snapshot only.
    """

    page_size: int
    commit: int
    min_txid: int
    max_txid: int
    flags: int = 0
    timestamp: int = 0
    pre_apply: int = 0
    wal_offset: int = 0
    wal_size: int = 0
    salt1: int = 0
    salt2: int = 0
    node_id: int = 0

    @property
    def is_snapshot(self) -> bool:
        """Whether the file holds every page, so that it can be applied to any state."""
        return self.min_txid == 1

    @property
    def compressed(self) -> bool:
        """Whether the page block is an LZ4 frame."""
        return self.flags & FLAG_LZ4 != 0

    @property
    def pos_before(self) -> Pos:
        """The position a database must have for this file to extend it; ``Pos(0, 0)`` for a snapshot."""
        return Pos(self.min_txid - 1, self.pre_apply)

    def validate(self, where: str = "") -> None:
        """Check every rule of the format; raises `LTXError` that starts with ``where``."""
        problem = _header_problem(self)
        if problem is not None:
            raise _refuse(where, problem)

    def encode(self) -> bytes:
        """Return the 100 bytes; raises `LTXError` when a field breaks the format's rules."""
        self.validate()
        return _HEADER.pack(
            MAGIC,
            self.flags,
            self.page_size,
            self.commit,
            self.min_txid,
            self.max_txid,
            self.timestamp,
            self.pre_apply,
            self.wal_offset,
            self.wal_size,
            self.salt1,
            self.salt2,
            self.node_id,
            _ZERO20,
        )

    @classmethod
    def decode(cls, data: Data, where: str = "") -> Header:
        """Read and validate the first 100 bytes of a file; raises `LTXError` that starts with ``where``."""
        if len(data) < HEADER_SIZE:
            raise _refuse(where, (len(data), f"the file ends inside its header ({HEADER_SIZE} bytes)"))
        magic, flags, page_size, commit, *rest, zero = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise _refuse(where, (0, f"magic is {magic!r}, not {MAGIC!r}: not an LTX file, or a newer version"))
        min_txid, max_txid, timestamp, pre_apply, wal_offset, wal_size, salt1, salt2, node_id = rest
        header = cls(
            page_size,
            commit,
            min_txid,
            max_txid,
            flags,
            timestamp,
            pre_apply,
            wal_offset,
            wal_size,
            salt1,
            salt2,
            node_id,
        )
        header.validate(where)
        if zero != _ZERO20:
            raise _refuse(where, (80, "the 20 reserved bytes are not zero"))
        return header


@dataclass(frozen=True, slots=True)
class Trailer:
    """What an LTX file says after its pages.

    ``post_apply`` is the database checksum after the transaction, ``file_checksum`` covers all that precedes it
    with the page block uncompressed.
    """

    post_apply: int
    file_checksum: int

    def encode(self) -> bytes:
        """Return the 16 bytes."""
        return _TRAILER.pack(self.post_apply, self.file_checksum)

    @classmethod
    def decode(cls, data: Data, where: str = "", at: int = 0) -> Trailer:
        """Read 16 bytes found at offset ``at`` of a file; raises `LTXError` that starts with ``where``."""
        if len(data) < TRAILER_SIZE:
            raise _refuse(where, (at + len(data), f"the file ends inside its trailer ({TRAILER_SIZE} bytes)"))
        post_apply, file_checksum = _TRAILER.unpack_from(data)
        if not post_apply & CHECKSUM_FLAG:
            raise _refuse(where, (at, f"post-apply checksum {post_apply:016x} lacks its top bit"))
        if not file_checksum & CHECKSUM_FLAG:
            raise _refuse(where, (at + 8, f"file checksum {file_checksum:016x} lacks its top bit"))
        return cls(post_apply, file_checksum)


def check_post_apply(header: Header, post_apply: int) -> str | None:
    """Return why ``post_apply`` cannot follow ``header``, or None."""
    if not CHECKSUM_FLAG <= post_apply <= _MAX_U64:
        return f"post-apply checksum {post_apply:x} lacks its top bit"
    if header.commit == 0 and post_apply != EMPTY:
        return f"post-apply checksum of a deletion is {post_apply:016x}, not {EMPTY:016x}"
    return None


def _refuse(where: str, problem: tuple[int, str]) -> LTXError:
    offset, why = problem
    return LTXError(f"{where or 'LTX header'}: at byte {offset}: {why}")


def _header_problem(h: Header) -> tuple[int, str] | None:
    """Return ``(offset, why)`` of the first broken rule. One flat pass: this runs for every commit."""
    if h.flags & ~FLAG_LZ4:
        return 4, f"unknown flags {h.flags:#010x}"
    size = h.page_size
    if not MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE or size & (size - 1):
        return 8, f"page size {size} is not a power of two from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE}"
    if not 0 <= h.commit <= _MAX_U32:
        return 12, f"commit {h.commit} does not fit in 32 bits"
    if not 1 <= h.min_txid <= _MAX_U64:
        return 16, f"minimum TXID {h.min_txid} is out of range"
    if not h.min_txid <= h.max_txid <= _MAX_U64:
        return 24, f"maximum TXID {h.max_txid:016x} is out of range or below the minimum {h.min_txid:016x}"
    if not -_MAX_I64 - 1 <= h.timestamp <= _MAX_I64:
        return 32, f"timestamp {h.timestamp} does not fit in 64 bits"
    if h.min_txid == 1:
        if h.pre_apply:
            return 40, f"a snapshot has pre-apply checksum {h.pre_apply:016x}, not 0"
    elif not CHECKSUM_FLAG <= h.pre_apply <= _MAX_U64:
        return 40, f"pre-apply checksum {h.pre_apply:016x} lacks its top bit"
    if h.wal_offset or h.wal_size or h.salt1 or h.salt2:
        problem = _wal_problem(h)
        if problem is not None:
            return problem
    if not 0 <= h.node_id <= _MAX_U64:
        return 72, f"node id {h.node_id} does not fit in 64 bits"
    return None


def _wal_problem(h: Header) -> tuple[int, str] | None:
    if not 0 <= h.wal_offset <= _MAX_I64:
        return 48, f"WAL offset {h.wal_offset} is out of range"
    if not 0 <= h.wal_size <= _MAX_I64:
        return 56, f"WAL size {h.wal_size} is out of range"
    if (h.wal_offset == 0) != (h.wal_size == 0):
        return 48, f"WAL offset {h.wal_offset} and size {h.wal_size} must both be zero or both be set"
    if (h.salt1 or h.salt2) and not h.wal_size:
        return 64, "WAL salts without WAL offset and size"
    if not (0 <= h.salt1 <= _MAX_U32 and 0 <= h.salt2 <= _MAX_U32):
        return 64, "a WAL salt does not fit in 32 bits"
    return None
