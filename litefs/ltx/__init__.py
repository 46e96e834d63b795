"""The LTX file format, version 1: one file is the pages that one transaction, or a run of them, changed.

Pure encoding and decoding; where files live and who may apply them is decided elsewhere.
"""

from litefs.ltx.checksum import (
    CHECKSUM_FLAG,
    EMPTY,
    database_checksum,
    lock_page,
    page_checksum,
    page_checksums,
)
from litefs.ltx.compactor import compact
from litefs.ltx.decoder import Decoder, read_info, verify
from litefs.ltx.encoder import Encoder, encode
from litefs.ltx.header import FLAG_LZ4, HEADER_SIZE, MAX_TIME, TRAILER_SIZE, Header, Trailer
from litefs.ltx.names import filename, parse_filename
from litefs.ltx.position import (
    Pos,
    format_checksum,
    format_txid,
    parse_checksum,
    parse_txid,
)

__all__ = [
    "CHECKSUM_FLAG",
    "EMPTY",
    "FLAG_LZ4",
    "HEADER_SIZE",
    "MAX_TIME",
    "TRAILER_SIZE",
    "Decoder",
    "Encoder",
    "Header",
    "Pos",
    "Trailer",
    "compact",
    "database_checksum",
    "encode",
    "filename",
    "format_checksum",
    "format_txid",
    "lock_page",
    "page_checksum",
    "page_checksums",
    "parse_checksum",
    "parse_filename",
    "parse_txid",
    "read_info",
    "verify",
]
