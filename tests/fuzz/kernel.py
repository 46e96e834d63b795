"""What a node reads: LTX files, what other nodes send, SQLite's files, its own directory, its configuration."""

from __future__ import annotations

import io
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import httpx
import trio
import trio.testing
from litefs_backup_cloud.client import CloudClient
from litefs_backup_cloud.settings import CloudSettings
from litefs_backup_store.head import Head
from litefs_backup_store.objects import StorageError
from litefs_lease_consul import keys
from litefs_proxy_fly import bodies, heads

from litefs import config, ltx
from litefs.backup import BackupError
from litefs.cluster.members import Members
from litefs.errors import ConfigError, FormatError, LTXError, StreamError
from litefs.ltx import EMPTY, Pos
from litefs.replication import members, posmap, wire
from litefs.replication.chunked import ChunkedBody
from litefs.replication.frames import FrameParser
from litefs.sqlite import freelist, journal, wal
from litefs.sqlite.header import DatabaseHeader
from litefs.store import branches, superjournal
from litefs.store.database import Database
from litefs.store.pagetable import PageTable
from litefs.store.recovery import recover
from litefs.store.store import Store
from tests.fuzz import api
from tests.fuzz.registry import folder, opened, quiet, target
from tests.support import chain
from tests.support.history import History, Scratch

PAGE = 512
SOON = 5.0  # seconds after which a reader waits for what never comes


# ---------------------------------------------------------------------------------------------------------------- LTX


def _transaction(txid: int, pages: list[tuple[int, bytes]], commit: int, *, flags: int = 0, pre: int = EMPTY) -> bytes:
    head = ltx.Header(
        flags=flags, page_size=PAGE, commit=commit, min_txid=txid, max_txid=txid, timestamp=1000,
        pre_apply=0 if txid == 1 else pre, wal_offset=0, wal_size=0, salt1=0, salt2=0, node_id=1,
    )  # fmt: skip
    post = ltx.CHECKSUM_FLAG
    for pgno, data in pages:
        post ^= ltx.page_checksum(pgno, data)
    return ltx.encode(head, pages, post | ltx.CHECKSUM_FLAG)


def _page(number: int) -> bytes:
    return bytes([number % 251]) * PAGE


_FIRST = _transaction(1, [(1, _page(1)), (2, _page(2))], 2)
_PACKED = _transaction(1, [(1, _page(1)), (2, os.urandom(0) + _page(7))], 2, flags=1)
_SECOND = _transaction(2, [(2, _page(3))], 2)


@target(_FIRST, _PACKED, _SECOND)
def ltx_file(data: bytes) -> None:
    """A whole file: read in three ways, which agree."""
    with suppress(LTXError):
        ltx.read_info(io.BytesIO(data))
    try:
        decoder = ltx.Decoder(io.BytesIO(data), name="x")
        pages = [(pgno, bytes(page)) for pgno, page in decoder]
        trailer = decoder.trailer
    except LTXError:
        with suppress(LTXError):
            ltx.verify(io.BytesIO(data))
        return
    assert ltx.verify(io.BytesIO(data)) == (decoder.header, trailer)
    assert all(len(page) == decoder.header.page_size for _, page in pages)
    assert pages == sorted(pages, key=lambda page: page[0])


@target(struct.pack(">H", len(_FIRST)) + _FIRST + _SECOND, struct.pack(">H", len(_PACKED)) + _PACKED + _SECOND)
def ltx_compaction(data: bytes) -> None:
    """Two files that may follow each other."""
    (length,) = struct.unpack(">H", data[:2].ljust(2, b"\0"))
    output = io.BytesIO()
    try:
        ltx.compact([io.BytesIO(data[2 : 2 + length]), io.BytesIO(data[2 + length :])], output, compress=False)
    except LTXError:
        return
    ltx.verify(io.BytesIO(output.getvalue()))


# -------------------------------------------------------------------------------------------------------- replication


@target(posmap.encode({"a.db": Pos(1, EMPTY), "b": Pos(2, EMPTY)}))
def position_map(data: bytes) -> None:
    with suppress(StreamError):
        found = posmap.decode(data)
        assert posmap.decode(posmap.encode(found)) == found


@target(
    b"\x05" + struct.pack(">IQI", 1, 0, 1) + b"a" + struct.pack(">H", 3) + b"abc" + b"\0\0",
    b"\x01" + struct.pack(">I", 2) + struct.pack(">Iq", 7, 1000) + struct.pack(">I", 3),
)
def stream(data: bytes) -> None:
    """Frames from a primary, in pieces of some size: bounded memory, and the same whatever the pieces."""
    size = max(1, data[0]) if data else 1
    ends = []
    for step in (size, len(data) or 1):
        parser, found = FrameParser(), 0
        try:
            for at in range(1, len(data), step):
                for frame in parser.feed(data[at : at + step]):
                    found += not hasattr(frame, "data")
                assert len(parser._held) < 5 << 10
            ends.append(found)
        except StreamError:
            ends.append(-1)
    assert ends[0] == ends[1], ends


@target(b"3\r\nabc\r\n0\r\n\r\n")
def chunked_body(data: bytes) -> None:
    body = ChunkedBody()
    with suppress(StreamError):
        for at in range(0, len(data), 7):
            body.feed(data[at : at + 7])
            while body.next() is not None:
                pass


@target(
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
)
def answer(data: bytes) -> None:
    """What another node answers to a request."""

    async def ask() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(data)
        await theirs.send_eof()
        response = wire._Http1Response(ours, "x", wire.SILENCE)
        with trio.fail_after(SOON), suppress(StreamError):
            await response.request("POST", "/stream", b"", {})
            while await response.receive():
                pass

    trio.run(ask)


_MEMBER = b'[{"id":"00000000000000AB","hostname":"h","advertiseURL":"http://h:1","candidate":true}]'


@target(_MEMBER)
def other_nodes(data: bytes) -> None:
    """What a primary tells about other nodes, and the file they are remembered in."""
    with suppress(StreamError):
        found = members.decode(data)
        assert members.decode(members.encode(found)) == found
    with folder() as path:
        (path / "members.json").write_bytes(data)
        with quiet():
            Members(path / "members.json", lambda: None)


# ------------------------------------------------------------------------------------------------- SQLite's own files


def _wal() -> bytes:
    with folder() as path:
        scratch = Scratch(path / "x", "wal", PAGE)
        scratch("CREATE TABLE t (x)", "INSERT INTO t VALUES (randomblob(900))")
        return scratch.side("wal")


def _journal() -> bytes:
    with folder() as path:
        scratch = Scratch(path / "x", "persist", PAGE)
        scratch("CREATE TABLE t (x)", "INSERT INTO t VALUES (zeroblob(900))", "BEGIN", "UPDATE t SET x = 1")
        return scratch.side("journal")


@target(_wal())
def wal_file(data: bytes) -> None:
    try:
        header = wal.WalHeader.parse(data[: wal.WAL_HEADER_SIZE])
    except FormatError:
        return
    assert wal.WalHeader.parse(header.encode()) == header
    with opened(data) as fd:
        for number, frame in enumerate(wal.scan(fd, header), 1):
            assert frame.number == number


@target(_journal())
def journal_file(data: bytes) -> None:
    with suppress(FormatError), opened(data) as fd:
        found = journal.Journal(fd, len(data))
        found.super_journal()
        for pgno, page in found.pages():
            assert pgno > 0
            assert len(page) == found.page_size


@target(bytes(100))
def database_header(data: bytes) -> None:
    with suppress(FormatError):
        head = DatabaseHeader.parse(data[:100])
        size = head.page_size
        freelist.leaves(lambda pgno: data[(pgno - 1) * size : pgno * size].ljust(size, b"\0"))


# --------------------------------------------------------------------------------------------------- a data directory

FILES = (
    "dbs/x/database",
    "dbs/x/wal",
    "dbs/x/journal",
    "dbs/x/checksums",
    "dbs/x/ltx/0000000000000002-0000000000000002.ltx",
    "dbs/x/ltx/1-1.ltx.tmp",
    "branches/x/1/branch.json",
    "nodeids",
    "clusterid",
    "super/x-mj012345678",
)


def _directory(path: Path) -> None:
    """One database with two transactions, the second only in its WAL and LTX file."""
    history = History(path / "dbs" / "x")
    scratch = Scratch(path / "scratch", "wal", PAGE)
    scratch("CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    history.commit(scratch.image)
    base = scratch.image
    scratch("INSERT INTO t VALUES (2)")
    history.commit(scratch.image)
    history.place(base, wal=scratch.side("wal"))
    scratch.connection.close()
    shutil.rmtree(path / "scratch")
    for name in FILES:
        (path / name).parent.mkdir(parents=True, exist_ok=True)


@target(*(bytes([number]) for number in range(len(FILES))))
def data_directory(data: bytes) -> None:
    """One file of a data directory holds anything: recovery comes to an end, and everything agrees."""
    if not data:
        return
    with folder() as path, quiet():
        _directory(path)
        name = FILES[data[0] % len(FILES)]
        known = (path / name).read_bytes() if (path / name).exists() else b""
        (path / name).write_bytes(_altered(known, data[1:]))
        store = Store(path, path / "nowhere", node_id=1)
        superjournal.leftovers(store.super_dir)
        branches.branches(path)
        PageTable.load(path / "dbs/x/checksums")
        state = recover(Database(store, "x"))[0]
        if state.commit:
            image = (path / "dbs/x/database").read_bytes()
            assert chain.checksum(image, state.page_size) == state.pos.checksum
            newest = store.database_path("x") / "ltx" / ltx.filename(state.pos.txid, state.pos.txid)
            with open(newest, "rb") as file:
                assert ltx.verify(file)[1].post_apply == state.pos.checksum


def _altered(known: bytes, data: bytes) -> bytes:
    """New content, or with a zero first, changes to what is there: places and bytes."""
    if not known or not data or data[0]:
        return data
    found = bytearray(known)
    for at in range(1, len(data) - 2, 3):
        place = int.from_bytes(data[at : at + 2], "big") % (len(found) or 1)
        found[place : place + 1] = data[at + 2 : at + 3]
    return bytes(found)


# --------------------------------------------------------------------------------------------------------------- other


@target(b"fuse:\n  dir: /x\ndata:\n  dir: /y\nexec: a b\n", b"lease: {type: consul, consul: {url: '${URL}'}}\n")
def litefs_yml(data: bytes) -> None:
    with suppress(ConfigError):
        config.loads(data.decode("utf-8", "surrogateescape"), environment={"URL": "http://h"})


@target(b"http://h", b"$OTHER", b"'}\nfuse: {dir: /z}\n#")
def environment(data: bytes) -> None:
    """A variable that litefs.yml refers to, with any value that one can have."""
    value = data.replace(b"\0", b"").decode("utf-8", "surrogateescape")
    for text in ("lease: {type: consul, consul: {url: '${URL}'}}\n", "${URL}\nexec: $URL ${URL == 'x'}\n"):
        with suppress(ConfigError):
            config.loads(text, environment={"URL": value, "OTHER": "x"})


@target(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
def proxied_request(data: bytes) -> None:
    heads.hopeless(data, 0)
    with suppress(heads.BadRequest):
        parsed = heads.parse_request(data)
        assert heads.parse_request(parsed.head).head == parsed.head


@target(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.0 204 No\r\n\r\n")
def proxied_response(data: bytes) -> None:
    for method in (b"GET", b"HEAD"):
        with suppress(heads.BadResponse):
            heads.parse_response(data, method)


@target(b"\x035\r\nhello\r\n0\r\n\r\n", b"\x015\r\nhello\r\n0\r\nA: b\r\n\r\n")
def proxied_body(data: bytes) -> None:
    """Chunks, in pieces of some size: the same payload whatever the pieces."""
    size = max(1, data[0]) if data else 1
    found = []
    for step in (size, len(data) or 1):
        body, payload = bodies.Chunked(), b""
        try:
            for at in range(1, len(data), step):
                payload += body.take(data[at : at + step])[0]
                if body.done:
                    break
            found.append((payload, body.done))
        except bodies.BadBody:
            found.append((b"", False))
    assert found[0] == found[1], found


@target(
    b'0{"x":{"TXID":"0000000000000001","PostApplyChecksum":"8000000000000000"}}',
    b'4{"code":"EPOSMISMATCH","pos":{"TXID":"0000000000000001","PostApplyChecksum":"8000000000000000"}}',
)
def backup_answer(data: bytes) -> None:
    """What a server of LiteFS Cloud's protocol answers: to a question for positions, and to an upload."""
    status = 409 if data[:1] == b"4" else 200

    def handle(request: httpx.Request) -> httpx.Response:
        mark = data[1:17].hex()[:16] if data[:1] == b"1" else "".join(map(chr, data[1:40])).encode("ascii", "ignore")
        return httpx.Response(status, content=data[1:], headers={b"Litefs-Hwm": _header(mark)})

    async def upload() -> None:
        settings = CloudSettings("http://127.0.0.1:1", "", "")
        client = CloudClient(settings, lambda: "", transport=httpx.MockTransport(handle))
        with suppress(BackupError):
            await client.positions()

        async def body():  # type: ignore[no-untyped-def]
            yield b"x"

        with suppress(BackupError):
            await client.write("x", body())
        await client.aclose()

    trio.run(upload)


def _header(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return bytes(byte for byte in raw if 32 <= byte < 127).strip()


@target(b'{"format":1,"database":"x","pos":"0000000000000001/8000000000000000","epoch":1}')
def backup_head(data: bytes) -> None:
    with suppress(StorageError):
        Head.decode(data, "x")


@target(b'{"hostname":"h","advertise-url":"http://h:1"}')
def consul_value(data: bytes) -> None:
    with suppress(ValueError):
        keys.decode(data)


@target(
    api.GOOD,
    b"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nLitefs-Stream: 1\r\n\r\n\0\0\0\0",
    b"POST /import?name=a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"GET /export?name=%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /halt?name=a&id=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
)
def http_api(data: bytes) -> None:
    api.check(data)
