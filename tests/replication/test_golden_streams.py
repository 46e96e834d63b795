"""Recorded streams of real LiteFS: our client follows them, our server answers the same requests alike."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import pytest

from litefs import ltx
from litefs.ltx import Pos
from litefs.replication import frames, posmap
from litefs.replication.client import ReplicationClient
from litefs.replication.server import StreamServer

from . import golden
from .fakes import FakeStore
from .streams import File, Frames, Recorded, Watch, run
from .test_frames import content_of

pytestmark = golden.needs_golden

WANTED = {"a.db": [4, 5, 6, 7], "b.db": [5, 6, 7]}


def ltx_files() -> dict[tuple[str, int, int], bytes]:
    """Every LTX file in the compressed recordings."""
    found = {}
    for name in golden.CASES if golden.CASES else ():
        case = golden.load(name)
        for frame in case.frames:
            if name.endswith("-lz4") and frame["type"] == 1:
                low, high = (int(frame["ltx"][key], 16) for key in ("min_txid", "max_txid"))
                found[frame["db"], low, high] = content_of(case, frame)
    return found


async def receive(store: FakeStore, name: str, watch: Watch | None = None) -> str | None:
    client = ReplicationClient(cast(Any, store), watch or Watch())
    return await client._receive(Recorded(golden.load(name).body))


def server_positions(name: str) -> dict[str, Pos]:
    recorded = golden.load(name).recorded["server_positions"]
    return {name: Pos.parse(text) for name, text in recorded.items()}


@pytest.mark.parametrize("kind", ["lz4", "raw"])
def test_our_client_follows(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        store, watch = FakeStore(tmp_path / "replica"), Watch()
        await receive(store, f"snapshot-{kind}", watch)
        assert watch.ready
        assert await store.positions() == server_positions(f"snapshot-{kind}")
        await receive(store, f"current-{kind}")
        await receive(store, f"live-{kind}")
        assert await store.positions() == server_positions(f"live-{kind}")
        assert store.databases["a.db"].applied == [(1, 6), (7, 7)]
        if kind == "lz4":
            await receive(store, "live-new-db-lz4")
            await receive(store, "live-drop-lz4")
            assert store.databases["b.db"].pages == {}
            assert store.databases["b.db"].pos == Pos(7, ltx.EMPTY)

    run(main)


def test_our_client_takes_page_less_snapshots(tmp_path: Path) -> None:
    async def main() -> None:
        store = FakeStore(tmp_path / "replica")
        await receive(store, "after-drop-empty-lz4")
        assert store.databases["b.db"].pos == Pos(7, ltx.EMPTY)
        await receive(store, "after-drop-current-lz4")

    run(main)


def test_our_client_knows_the_other_frames(tmp_path: Path) -> None:
    async def main() -> None:
        store = FakeStore(tmp_path / "replica")
        assert await receive(store, "handoff-lz4") == "55fa5130-3171-cfea-2688-21fa435e3442"
        assert await receive(store, "shutdown-lz4") is None
        assert await receive(store, "client-only-lz4") is None

    run(main)


async def primary_like(case: golden.Case, data_dir: Path) -> FakeStore:
    """A store at the recorded server's positions, with the incremental files that are in the recordings."""
    store, files = FakeStore(data_dir, node_id=0x77, writable=True), ltx_files()
    for name, text in case.recorded["server_positions"].items():
        db, pos = store.add(name), Pos.parse(text)
        start = max(high for known, low, high in files if known == name and low == 1 and high <= pos.txid)
        for low, high in [(1, start), *((n, n) for n in range(start + 1, pos.txid + 1))]:
            data = files[name, low, high]
            tmp = db.ltx_dir.temporary()
            tmp.write_bytes(data)
            await db.apply_ltx(tmp, *ltx.verify(io.BytesIO(data)), local=False)
        db.ltx_dir.remove((1, start))
        for txid in WANTED.get(name, ()):
            if txid <= pos.txid:
                db.ltx_dir.file(txid, txid).write_bytes(files[name, txid, txid])
        db.ltx_dir.load()
        assert db.pos == pos
    return store


CASES = [
    name
    for name in golden.CASES
    if name.endswith("-lz4") and not name.startswith(("live", "handoff", "hwm", "shutdown", "after-drop-"))
]


@pytest.mark.parametrize("name", CASES)
def test_our_server_answers_alike(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        case = golden.load(name)
        store = await primary_like(case, tmp_path / "primary")
        source = StreamServer(cast(Any, store), snapshot_limit=30)
        request = case.recorded["request"]
        _, _, names = request["path"].partition("filter=")
        stream = await source.stream(
            bytes.fromhex(request["body_hex"]), set(names.split(",")) if names else None, 0xDEADBEEF
        )
        try:
            found = await Frames(stream).until(frames.Heartbeat)
        finally:
            await stream.aclose()
        assert by_database(map(describe, found)) == by_database(map(described, case.frames))

    run(main)


Description = tuple[str, str, Any]


def describe(frame: Any) -> Description:
    if isinstance(frame, File):
        header, trailer = ltx.verify(io.BytesIO(frame))
        file = (header.page_size, header.commit, header.min_txid, header.max_txid, header.pre_apply, trailer.post_apply)
        return "LTX", frame.db, file
    detail = frame.txid if isinstance(frame, frames.HWM) else None
    return type(frame).__name__, getattr(frame, "name", ""), detail


def described(frame: dict[str, Any]) -> Description:
    detail: Any = None
    if frame["type"] == 1:
        info = frame["ltx"]
        numbers = [int(info[key], 16) for key in ("min_txid", "max_txid", "pre_apply_checksum", "post_apply_checksum")]
        detail = (info["page_size"], info["commit"], *numbers)
    elif frame["type"] == 6:
        detail = int(frame["txid"], 16)
    return frame["name"], frame.get("db", ""), detail


def by_database(found: Any) -> dict[str, list[Description]]:
    """Frames in order for each database; those of none under the empty name."""
    out: dict[str, list[Description]] = {}
    for item in found:
        out.setdefault(item[1], []).append(item)
    return out


def test_position_maps_of_our_client(tmp_path: Path) -> None:
    async def main() -> None:
        store = FakeStore(tmp_path / "replica")
        await receive(store, "snapshot-lz4")
        recorded = golden.load("current-lz4").recorded["request"]["body_hex"]
        assert posmap.encode(await store.positions()).hex() == recorded

    run(main)
