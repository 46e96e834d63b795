"""What is kept and read again later: encrypted objects, vaults, branches, database files, the server's requests."""

from __future__ import annotations

import atexit
import functools
import io
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import lz4.frame
import trio
from litefs_backup_store import entries, sealing
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.keys import Key, parse_keys
from litefs_backup_store.levels import Levels
from litefs_backup_store.objects import StorageError
from litefs_backup_store.vault import Vault
from litefs_backup_store.verifier import Verifier
from litefs_cloud_server import sqlitefile as uploaded
from litefs_cloud_server.app import build
from litefs_cloud_server.calls import Server
from litefs_cloud_server.clusters import Clusters
from litefs_cloud_server.registry import Registry
from litefs_cloud_server.tokens import Tokens

from litefs import ltx
from litefs.backup import BackupError
from litefs.cli.branches import _as_json, _pages
from litefs.cluster.term import Terms
from litefs.errors import ConfigError, FormatError, StoreError
from litefs.ltx import Pos, lz4block
from litefs.replication.frames import MAX_TERM
from litefs.sqlite import walindex
from litefs.store import branches, branchfile, nodeids, sqlitefile
from litefs.testing.backups import History
from tests.fuzz.registry import folder, quiet, said, target
from tests.support.history import Scratch

# -------------------------------------------------------------------------------------------------------------- objects

NAME = "ltx/a/0/x.ltx"
KEYS = (Key(b"k" * 32), Key(b"l" * 32))
_PLAIN = b"0123456789" * 100
_SEALED = sealing.seal_bytes(_PLAIN, NAME, KEYS[1])


@target(_SEALED, sealing.seal_bytes(b"", NAME, KEYS[0]), _SEALED[:40])
def encrypted_object(data: bytes) -> None:
    """An encrypted object that somebody has changed is never decrypted to anything but what was encrypted."""
    with suppress(StorageError):
        assert sealing.unseal_bytes(data, NAME, KEYS) in (_PLAIN, b"")
    with suppress(StorageError):
        assert not sealing.unseal_bytes(data, NAME + "2", KEYS), "under another one's name"


@target(b"6b" * 32, b"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=, " + b"6B" * 32)
def encryption_keys(data: bytes) -> None:
    """Keys as a file or the environment has them; what is wrong with one does not show it."""
    text = data.decode("utf-8", "surrogateescape")
    message = ""
    try:
        found = parse_keys(text, "there")
        assert all(len(key.secret) == 32 for key in found)
        assert parse_keys(" ".join(key.secret.hex() for key in found), "there") == found
    except ConfigError as error:
        message = str(error)
    assert not any(len(word) > 20 and word in message for word in text.split())


_HEADER = ltx.Header(512, 2, 1, 2, timestamp=1000)


@target(entries.key_of("a/../b.db", 3, _HEADER, ltx.Trailer(1 << 63, 1 << 63)).encode(), b"ltx/a/0/x.ltx")
def vault_key(data: bytes) -> None:
    """The name of an object: an LTX file's says what it says."""
    text = data.decode("utf-8", "surrogateescape")
    found = entries.parse(text)
    if found is not None:
        again = entries.parse(found.key)
        assert again == found
        assert found.after.txid == found.max_txid
    part = entries.folder_name(text)
    assert "/" not in part
    assert len(part) <= 255
    assert part not in (".", "..")


@functools.cache
def _vault() -> tuple[Path, tuple[bytes, ...]]:
    """A folder with the backup of a database, and the pages of all of its states."""
    path = Path(tempfile.mkdtemp(prefix="fuzz"))
    atexit.register(shutil.rmtree, path)
    vault, history, states = Vault(FolderObjects(path)), History(), []
    vault.claim()
    for number in range(3):
        data = history.commit({1: b"%d" % number, number + 1: b"x"})
        (path / "new").write_bytes(data)
        header, trailer = ltx.verify(io.BytesIO(data))
        vault.append("a.db", path / "new", header, trailer)
        states.append(b"".join(history.pages.values()))
        if number == 1:
            vault.keep("a.db")
    (path / "new").unlink()
    (path / ".lock").unlink()
    verified = {"time": 1e9, "seconds": 1.0, "databases": 1, "problems": ["p"], "count": 1}
    (path / "verified.json").write_text(json.dumps(verified))
    return path, tuple(states)


@target(*(bytes([number]) + b"\0" for number in range(7)))
def vault(data: bytes) -> None:
    """One object of a backup is anything: a state that there was, or an error; nothing else is ever restored."""
    if not data:
        return
    original, states = _vault()
    with folder() as path, quiet():
        shutil.copytree(original, path / "v")
        files = sorted(each for each in (path / "v").rglob("*") if each.is_file())
        file = files[data[0] % len(files)]
        known = file.read_bytes()
        if file.suffix == ".ltx":
            file.write_bytes(_edited(known, data[1:]))
        else:
            file.write_bytes(said(json.loads(known), data[1:]))
        objects = FolderObjects(path / "v")
        for read in ({}, {"txid": 2}, {"timestamp": 1_700_000_002_000}):
            output = io.BytesIO()
            with suppress(BackupError):
                Vault(objects).restore("a.db", output, **read)
                pages = ltx.Decoder(io.BytesIO(output.getvalue()))
                assert b"".join(bytes(page) for _, page in pages) in states
        with suppress(BackupError):
            Vault(objects).positions()
        with suppress(BackupError):
            writer = Vault(objects)
            writer.claim()
            writer.append_state("a.db", txid=1)
        verifier = Verifier(objects, lambda _: _not_verified(), 60.0)
        with suppress(BackupError):
            verifier._round()
        assert sorted(each.name for each in path.iterdir()) == ["v"], "something was written elsewhere"


def _not_verified() -> None:  # type: ignore[return]
    raise BackupError("")


def _edited(known: bytes, edits: bytes) -> bytes:
    found = bytearray(known)
    for at in range(0, len(edits) - 2, 3):
        place = int.from_bytes(edits[at : at + 2], "big") % (len(found) or 1)
        found[place : place + 1] = edits[at + 2 : at + 3]
    return bytes(found)


@target(lz4block.compress(b"x" * 70_000), lz4block.compress(b""), lz4.frame.compress(b"abc" * 99, store_size=True))
def lz4_frame(data: bytes) -> None:
    """Never more at once than was asked for, and the same in pieces of any size."""
    found: list[bytes | None] = []
    for size in (777, 1 << 20):
        reader, content = lz4block.FrameReader(io.BytesIO(data)), b""
        try:
            while len(content) < 1 << 21 and (piece := reader.read(size)):
                assert len(piece) <= size
                content += piece
            found.append(content[: 1 << 21])
        except lz4block.Lz4Error:
            found.append(None)
    if None not in found:
        assert found[0] == found[1]
        assert len(found[0] or b"") >= 1 << 21 or lz4block.compress(found[0] or b"")


# ------------------------------------------------------------------------------------------------------- database files


def _database(mode: str) -> bytes:
    with folder() as path:
        scratch = Scratch(path / "x", mode, 512)
        scratch("CREATE TABLE t (x)", "INSERT INTO t VALUES (randomblob(900))")
        return scratch.image


@target(_database("delete"), _database("wal"), b"SQLite format 3\0" + bytes(84))
def imported_database(data: bytes) -> None:
    """A file to be imported, or uploaded to the server: whole pages that fit to the checksums that go with them."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        with suppress(FormatError):
            reader = sqlitefile.Reader(file, fresh=Pos(7, 1 << 63 | 9))
            image = b"".join(bytes(piece) for _, piece in reader)
            assert len(image) == reader.commit * reader.page_size
            sums = [ltx.page_checksum(pgno, page) for pgno, page in _cut(image, reader.page_size)]
            assert reader.table.checksum(reader.page_size, reader.commit) == ltx.database_checksum(sums)
        sqlitefile.is_complete(file.fileno())
        with suppress(FormatError):
            output = io.BytesIO()
            head_, trailer = uploaded.as_transaction(file.fileno(), output, Pos(0, 0), 1000)
            assert ltx.verify(io.BytesIO(output.getvalue())) == (head_, trailer)


def _cut(image: bytes, size: int) -> list[tuple[int, bytes]]:
    return [(at // size + 1, image[at : at + size]) for at in range(0, len(image), size)]


_INDEX = walindex.WalIndexHeader(512, 3, 2, (1, 2), b"saltsalt").encode()


@target(_INDEX + _INDEX + walindex.CheckpointInfo(1, (0, 3, 3, 3, 3), 1).encode())
def wal_index(data: bytes) -> None:
    """What is shared with applications: they write it, too."""
    with suppress(FormatError):
        found = walindex.WalIndexHeader.parse(data)
        assert walindex.WalIndexHeader.parse(found.encode()) == found
    with suppress(FormatError):
        info = walindex.CheckpointInfo.parse(data[96:])
        assert walindex.CheckpointInfo.parse(info.encode()) == info


# --------------------------------------------------------------------------------------------------- the data directory

_BRANCH = {
    "database": "x", "reason": "diverged", "time": "2026-01-01T00:00:00.000Z", "tip": "", "tip_time": "", "pages": 1,
    "page_size": 512, "base": "", "replaced_by": "", "changed_pages": 1, "node": "", "note": "",
}  # fmt: skip


def _branch() -> tuple[dict[str, object], bytes]:
    history = History()
    data = history.commit({1: b"a", 2: b"b"})
    return {**_BRANCH, "tip": str(history.pos), "pages": 2}, data


@target(b"\0", b"\0\2\0", json.dumps(_branch()[0]).encode())
def branch_file(data: bytes) -> None:
    """What describes a branch is anything: the others are still there, and what is exported is what was kept."""
    right, transaction = _branch()
    with folder() as path:
        for name, content in (("good", json.dumps(right).encode()), ("odd", said(right, data))):
            place = path / "branches" / "x" / name
            place.mkdir(parents=True)
            (place / "branch.json").write_bytes(content)
            (place / ltx.filename(1, 1)).write_bytes(transaction)
        found = branches.branches(path)
        assert "good" in [branch.id for branch in found]
        for branch in found:
            json.dumps(_as_json(branch))
            _pages(branch)
            branch.span()
            if branches.is_exportable(branch):
                with open(path / "out", "wb+") as out, suppress(StoreError):
                    branchfile.write(branch, out)
                    out.seek(0)
                    assert out.read() == b"a".ljust(512, b"\0") + b"b".ljust(512, b"\0")
        new = branches.begin(path, branches.Branch(database="x", reason="diverged", time=branches.now()))
        branches.publish(new, 1, 1)


@target(b"\0", b'{"cluster":"c","held":5,"seen":7}', b"0000000000000001\n00000000000000ab\n")
def small_files(data: bytes) -> None:
    """The files `term` and `nodeids`: read, changed and read again."""
    with folder() as path, quiet():
        (path / "term").write_bytes(said({"cluster": "c", "held": 5, "seen": 7}, data))
        terms = Terms(path, lambda: "c", now=lambda: 1.0, in_thread=_at_once)
        assert 0 <= terms.held <= terms.seen <= MAX_TERM
        if terms.seen < MAX_TERM:
            trio.run(terms.begin)
            assert Terms(path, lambda: "c").held == terms.held
        (path / "nodeids").write_bytes(data)
        before = nodeids.known(path)
        nodeids.remember(path, 5)
        assert 5 in nodeids.known(path)
        assert len(nodeids.known(path)) <= nodeids.KEPT
        assert nodeids.known(path) - {5} <= before


async def _at_once(call) -> None:  # type: ignore[no-untyped-def]
    call()


# -------------------------------------------------------------------------------------------------- the backup's server


class _Cloud:
    """A server in this process, and its clusters: everybody may write `one`, and nobody but its owner `two`."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="fuzz"))
        tokens = Tokens(FolderObjects(self.path))
        registry = Registry(FolderObjects(self.path), tokens)
        place = self.path / "clusters"
        self.clusters = Clusters(lambda name: FolderObjects(place / name), Levels(), registry.add)
        self.tokens = [tokens.create("one", read_only=False), tokens.create("one", read_only=True), ""]
        self.owner = tokens.create("two", read_only=False)
        self.app = build(Server(tokens, registry, self.clusters))
        self.history = History()
        self.first = self.history.commit({1: b"a"})
        atexit.register(self.close)

    def close(self) -> None:
        self.clusters.close()
        shutil.rmtree(self.path)

    async def ask(self, token: str, method: str, target: str, body: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, target, content=body, headers={"Authorization": token})


@functools.cache
def _cloud() -> _Cloud:
    cloud = _Cloud()
    found = trio.run(cloud.ask, cloud.owner, "POST", "/db/tx?db=a.db", cloud.first)
    assert found.status_code == 200, found.text
    return cloud


_FIRST = History().commit({1: b"a"})


@target(
    b"\0POST /db/tx?db=a.db\n" + _FIRST,
    b"\0POST /db/upload?db=b.db\n" + _database("delete"),
    *(b"\0GET " + path for path in (
        b"/pos\n", b"/hwm\n", b"/db/info?db=a.db\n", b"/db/snapshot?db=a.db&format=sqlite\n", b"/regions\n",
        b"/db/restore/check?db=a.db&timestamp=2026-01-01T00:00:00Z\n", b"/clusters?offset=1&limit=2\n",
    )),
    b"\0POST /db/restore?db=a.db&txid=1\n", b"\0DELETE /db?db=a.db\n", b"\1DELETE /db?db=a.db&cluster=two\n",
    b'\0POST /clusters\n{"cluster":"x"}', b"\2GET /metrics\n", b"\0GET /\n", b"\0POST /login\ntoken=x\n",
)  # fmt: skip
def cloud_request(data: bytes) -> None:
    """A request to the server that keeps backups: answered without an internal error, and of no harm to others."""
    cloud = _cloud()
    line, _, body = data[1:].partition(b"\n")
    method, _, target_ = line.decode("latin-1").partition(" ")
    token = cloud.tokens[data[0] % len(cloud.tokens)] if data else ""

    async def ask() -> None:
        with trio.fail_after(30):
            with suppress(httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError):
                found = await cloud.ask(token, method or "GET", "/" + target_.lstrip("/"), body)
                assert found.status_code != 500, (method, target_, found.text)
            found = await cloud.ask(cloud.owner, "GET", "/pos", b"")
            assert found.json()["a.db"]["PostApplyChecksum"] == f"{cloud.history.pos.checksum:016x}"
            found = await cloud.ask(cloud.tokens[0], "GET", "/pos", b"")
            assert found.status_code == 200, found.text

    with quiet():
        trio.run(ask)
