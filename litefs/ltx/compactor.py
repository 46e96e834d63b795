"""Merges the LTX files of consecutive transactions into one that has the same effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import accumulate, groupby, pairwise
from operator import itemgetter
from typing import BinaryIO

from litefs.errors import LTXError
from litefs.ltx.decoder import BATCH_SIZE, Decoder
from litefs.ltx.encoder import Encoder
from litefs.ltx.header import FLAG_LZ4, Header, Trailer

_MEMORY = 32 << 20
_MIN_BATCH = 1 << 16

_Version = tuple[int, int, bytes]
"""Page number, index of the file it comes from, bytes."""


def compact(inputs: Sequence[BinaryIO], output: BinaryIO, *, compress: bool) -> tuple[Header, Trailer]:
    """Merge LTX files, given in any order, into ``output``; memory does not grow with the files.

    The newest version of each page wins. The transactions must be consecutive, each starting from the checksum the
    one before ended with. The result names no node and no WAL position. Raises `LTXError`; what was written to
    ``output`` by then is worthless.
    """
    decoders = _open(inputs)
    header = _merged_header([decoder.header for decoder in decoders], compress)
    encoder = Encoder(output, header)
    for pgno, data in _newest(decoders, header):
        encoder.write_page(pgno, data)
    _check_chain(decoders)
    return header, encoder.finish(decoders[-1].trailer.post_apply)


def _open(inputs: Sequence[BinaryIO]) -> list[Decoder]:
    if not inputs:
        raise LTXError("nothing to compact: no LTX files were given")
    batch_size = max(_MIN_BATCH, min(BATCH_SIZE, _MEMORY // len(inputs)))
    decoders = [Decoder(fileobj, name=_name(fileobj), batch_size=batch_size) for fileobj in inputs]
    return sorted(decoders, key=lambda decoder: decoder.header.min_txid)


def _name(fileobj: BinaryIO) -> str:
    name = getattr(fileobj, "name", "")
    return name if isinstance(name, str) else ""


def _merged_header(headers: list[Header], compress: bool) -> Header:
    first, last = headers[0], headers[-1]
    for before, after in pairwise(headers):
        if after.page_size != before.page_size:
            raise LTXError(
                f"transaction {after.min_txid:016x} has pages of {after.page_size} bytes, "
                f"the ones before of {before.page_size}"
            )
        if after.min_txid != before.max_txid + 1:
            raise LTXError(f"transaction {after.min_txid:016x} does not follow {before.max_txid:016x}")
    return Header(
        page_size=first.page_size,
        commit=last.commit,
        min_txid=first.min_txid,
        max_txid=last.max_txid,
        flags=FLAG_LZ4 if compress else 0,
        timestamp=last.timestamp,
        pre_apply=first.pre_apply,
    )


def _newest(decoders: list[Decoder], header: Header) -> Iterator[tuple[int, bytes]]:
    """Yield the pages of the result.

    A page that a later file cut off is gone, even where the database grew again after that: what SQLite left
    unwritten then reads as zeros, not as what was there before.
    """
    commits = [decoder.header.commit for decoder in decoders]
    limits = list(accumulate(reversed(commits), min))[::-1]
    zero = bytes(header.page_size)
    versions = merge(*(_versions(decoder, index) for index, decoder in enumerate(decoders)))
    for pgno, same in groupby(versions, itemgetter(0)):
        *_, (_, index, data) = same
        if pgno <= limits[index]:
            yield pgno, data
        elif pgno <= header.commit:
            yield pgno, zero


def _versions(decoder: Decoder, index: int) -> Iterator[_Version]:
    for pgno, data in decoder:
        yield pgno, index, data


def _check_chain(decoders: list[Decoder]) -> None:
    for before, after in pairwise(decoders):
        if after.header.pre_apply != before.trailer.post_apply:
            raise LTXError(
                f"{after.name}: starts from checksum {after.header.pre_apply:016x}, but transaction "
                f"{before.header.max_txid:016x} ended with {before.trailer.post_apply:016x}"
            )
