"""What a stream carries: order of frames, snapshot or files, filter, heartbeats, ends."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from litefs import ltx
from litefs.errors import DatabaseBusy, ReadOnly, StreamError
from litefs.ltx import EMPTY, Pos
from litefs.replication import catchup, posmap
from litefs.replication.ending import Offer
from litefs.replication.frames import (
    HWM,
    DropDB,
    End,
    FrameParser,
    Handoff,
    Heartbeat,
    LTXStart,
    Ready,
    Term,
)
from litefs.replication.server import StreamServer

from .fakes import FakeDatabase, FakeStore
from .streams import File, Frames, run

BAD = Pos(5, ltx.CHECKSUM_FLAG | 5)


def summary(found: list[Any]) -> list[Any]:
    return [frame.info if isinstance(frame, File) else frame for frame in found]


@asynccontextmanager
async def connect(
    source: StreamServer, theirs: dict[str, Pos] | None = None, names: set[str] | None = None, peer: int = 2
) -> AsyncIterator[Frames]:
    async with aclosing(await source.stream(posmap.encode(theirs or {}), names, peer)) as stream:
        yield Frames(stream)


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    return FakeStore(tmp_path / "primary", node_id=0x11, writable=True)


@pytest.fixture
def source(store: FakeStore) -> StreamServer:
    return StreamServer(cast(Any, store), snapshot_limit=30)


def fill(store: FakeStore, name: str = "db", count: int = 3) -> tuple[FakeDatabase, list[Pos]]:
    db = store.add(name)
    return db, [db.write({1: b"one", n + 1: b"%d" % n}) for n in range(count)]


def test_nothing_to_send(source: StreamServer) -> None:
    async def main() -> None:
        async with connect(source) as frames:
            assert await frames.next() == Ready()
            assert isinstance(await frames.next(), Heartbeat)
            start = trio.current_time()
            assert isinstance(await frames.next(), Heartbeat)
            assert isinstance(await frames.next(), Heartbeat)
            assert trio.current_time() - start == pytest.approx(2)

    run(main)


@pytest.mark.parametrize("compress", [True, False])
def test_an_empty_replica_gets_a_snapshot(store: FakeStore, source: StreamServer, compress: bool) -> None:
    async def main() -> None:
        store.compress = compress
        db, history = fill(store)
        async with connect(source) as frames:
            found = await frames.until(Ready)
            assert summary(found) == [("db", 1, 3), Ready()]
            header, trailer = ltx.verify(io.BytesIO(found[0]))
            assert (header.node_id, header.timestamp) == (0x11, db.timestamp)
            assert (header.compressed, trailer.post_apply) == (compress, history[-1].checksum)
            assert dict(ltx.Decoder(io.BytesIO(found[0]))) == db.pages
        assert db.snapshots[0].closed
        assert source.frames_sent == {("db", "ltx:snapshot"): 1}

    run(main)


def test_a_replica_behind_gets_files_each_with_its_hwm(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, history = fill(store, count=5)
        db.hwm = 3
        async with connect(source, {"db": history[1]}) as frames:
            hwm = HWM(3, "db")
            assert summary(await frames.until(Ready)) == [
                ("db", 3, 3), hwm, ("db", 4, 4), hwm, ("db", 5, 5), hwm, Ready()
            ]  # fmt: skip
        assert not db.snapshots
        assert source.frames_sent == {("db", "ltx"): 3}

    run(main)


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (lambda h: h[-1], []),
        (lambda h: Pos(9, h[-1].checksum), [("db", 1, 5)]),
        (lambda h: Pos(5, BAD.checksum), [("db", 1, 5)]),
        (lambda h: Pos(3, BAD.checksum), [("db", 1, 5)]),
        (lambda h: Pos(0, 0), [("db", 1, 5)]),
    ],
    ids=["current", "ahead", "same-txid", "behind-other-checksum", "zero"],
)
def test_snapshot_or_not(store: FakeStore, source: StreamServer, theirs: Any, expected: list[Any]) -> None:
    async def main() -> None:
        _, history = fill(store, count=5)
        async with connect(source, {"db": theirs(history)}) as frames:
            assert summary(await frames.until(Ready)) == [*expected, Ready()]

    run(main)


def test_a_missing_file_makes_a_snapshot(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, history = fill(store, count=6)
        for txid in (1, 2, 3):
            db.ltx_dir.remove((txid, txid))
        async with connect(source, {"db": history[1]}) as frames:
            assert summary(await frames.until(Ready)) == [("db", 1, 6), Ready()]
        async with connect(source, {"db": history[3]}) as frames:
            assert summary(await frames.until(Ready))[0] == ("db", 5, 5)
        db.ltx_dir.file(6, 6).unlink()  # behind the directory's back: after some files that could be sent
        async with connect(source, {"db": history[3]}) as frames:
            assert summary(await frames.until(Ready)) == [("db", 5, 5), HWM(0, "db"), ("db", 1, 6), Ready()]

    run(main)


@pytest.mark.parametrize("damage", [b"", b"LTX1", b"x" * 300])
def test_a_damaged_file_makes_a_snapshot(store: FakeStore, source: StreamServer, damage: bytes) -> None:
    async def main() -> None:
        db, history = fill(store)
        db.ltx_dir.file(3, 3).write_bytes(damage)
        async with connect(source, {"db": history[1]}) as frames:
            assert summary(await frames.until(Ready)) == [("db", 1, 3), Ready()]

    run(main)


def test_files_with_a_range_of_transactions_are_ordinary(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, history = fill(store, count=6)
        with open(db.ltx_dir.file(3, 5), "wb") as out:
            inputs = [open(db.ltx_dir.file(n, n), "rb") for n in (3, 4, 5)]  # noqa: SIM115
            ltx.compact(inputs, out, compress=True)
            for one in inputs:
                one.close()
        for n in (3, 4, 5):
            db.ltx_dir.remove((n, n))
        db.ltx_dir.load()
        async with connect(source, {"db": history[1]}) as frames:
            found = summary(await frames.until(Ready))
            assert found == [("db", 3, 5), HWM(0, "db"), ("db", 6, 6), HWM(0, "db"), Ready()]

    run(main)


def test_big_files_are_sent_in_pieces(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        store.compress = False
        db, history = fill(store)
        db.write(dict.fromkeys(range(1, 3000), b"big"))
        last = db.write({1: b"small"})
        async with connect(source, {"db": history[-1]}) as frames:
            sizes = []
            parser, found = FrameParser(), []
            while Ready() not in found:
                piece = await frames.stream.__anext__()
                sizes.append(len(piece))
                found += list(parser.feed(piece))
            assert max(sizes) < 300_000
            assert [f for f in found if isinstance(f, HWM)] == [HWM(0, "db")] * 2
            assert frames.stream.positions["db"] == last
        async with connect(source, {"db": Pos(3, BAD.checksum)}) as frames:  # the first file is big and does not fit
            db.ltx_dir.remove((5, 5))
            assert summary(await frames.until(Ready))[0] == ("db", 1, 5)

    run(main)


def test_thousands_of_files(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        _, history = fill(store, count=500)
        async with connect(source, {"db": history[0]}) as frames:
            found = summary(await frames.until(Ready))
            assert found[0:-1:2] == [("db", n, n) for n in range(2, 501)]

    run(main)


def test_dropped_databases(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, history = fill(store)
        gone = db.drop()
        async with connect(source) as frames:
            file = await frames.next()
            assert file.info == ("db", 1, 4)
            assert ltx.verify(io.BytesIO(file))[1].post_apply == EMPTY
            assert await frames.next() == Ready()
        async with connect(source, {"db": history[-1]}) as frames:
            assert summary(await frames.until(Ready)) == [("db", 4, 4), HWM(0, "db"), Ready()]
        async with connect(source, {"db": gone}) as frames:
            assert await frames.next() == Ready()

    run(main)


def test_databases_only_the_replica_has(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        store.add("never written")
        fill(store)
        theirs = {"mine": BAD, "other": BAD}
        async with connect(source, theirs) as frames:
            found = await frames.until(Ready)
            assert {DropDB("mine"), DropDB("other")} < set(found)
        async with connect(source, theirs, {"mine", "db"}) as frames:
            assert summary(await frames.until(Ready)) == [DropDB("mine"), ("db", 1, 3), Ready()]

    run(main)


def test_filter(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        for name in ("one", "two", "three"):
            fill(store, name)
        async with connect(source, {"two": BAD}, {"one", "three", "none"}) as frames:
            found = summary(await frames.until(Ready))
            assert sorted(found[:-1]) == [("one", 1, 3), ("three", 1, 3)]
            assert isinstance(await frames.next(), Heartbeat)
            store.databases["two"].write({1: b"x"})
            store.databases["one"].write({1: b"x"})
            assert (await frames.next()).info == ("one", 4, 4)

    run(main)


def test_live(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, _ = fill(store)
        async with connect(source) as frames:
            await frames.until(Heartbeat)
            for _ in range(20):
                db.write({2: b"x"})
            found = summary(await frames.until(Heartbeat))
            assert found[0:-1:2] == [("db", n, n) for n in range(4, 24)]
            fill(store, "new", 1)
            assert (await frames.next()).info == ("new", 1, 1)
            db.drop()
            assert (await frames.next()).info == ("db", 24, 24)

    run(main)


def test_unpublished_transactions_stay_here(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, history = fill(store)
        db.write({1: b"x"}, publish=False)
        async with connect(source, {"db": history[0]}) as frames:
            assert summary(await frames.until(Ready))[0:-1:2] == [("db", 2, 2), ("db", 3, 3)]
            assert isinstance(await frames.next(), Heartbeat)
            assert isinstance(await frames.next(), Heartbeat)
            db.publish()
            assert (await frames.next()).info == ("db", 4, 4)

    run(main)


def test_a_snapshot_with_unpublished_transactions_waits_for_them(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, _ = fill(store)
        last = db.write({1: b"x"}, publish=False)
        async with connect(source) as frames:
            with trio.move_on_after(5) as waited:
                await frames.next()
            assert waited.cancelled_caught
        async with connect(source) as frames, trio.open_nursery() as nursery:

            async def publish() -> None:
                await trio.sleep(3)
                db.publish()

            nursery.start_soon(publish)
            assert (await frames.next()).info == ("db", 1, 4)
            assert db.published == last
            assert await frames.next() == Ready()
            assert isinstance(await frames.next(), Heartbeat)
            db.write({1: b"y"})
            assert (await frames.next()).info == ("db", 5, 5)

    run(main)


def test_writes_during_a_snapshot_follow_it(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        store.compress = False
        db = store.add("db")
        db.write(dict.fromkeys(range(1, 10000), b"x"))
        async with connect(source) as frames:
            first = await frames.stream.__anext__()
            db.write({2: b"during"})
            db.write({3: b"during"})
            found = list(frames._parser.feed(first))
            assert isinstance(found[0], LTXStart)
            while Ready() not in found:
                found += frames._parser.feed(await frames.stream.__anext__())
            found += frames._parser.feed(await frames.stream.__anext__())
            assert [x.name for x in found if isinstance(x, LTXStart)] == ["db"] * 3

    run(main)


def test_heartbeats_go_on_under_load(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, _ = fill(store)
        async with connect(source) as frames:
            await frames.until(Heartbeat)
            start, beats = trio.current_time(), 0
            while trio.current_time() < start + 10:
                await trio.sleep(0.3)
                db.write({2: b"x"})
                beats += isinstance((await frames.until(HWM, Heartbeat))[-1], Heartbeat)
            assert beats >= 5

    run(main)


def test_shutdown_ends_with_end(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        async with connect(source) as frames:
            await frames.until(Heartbeat)
            assert len(source) == 1
            source.end_all()
            assert await frames.next() == End()
            with pytest.raises(StopAsyncIteration):
                await frames.next()
            assert len(source) == 0

    run(main)


def test_end_while_waiting(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        async with connect(source) as frames, trio.open_nursery() as nursery:
            await frames.until(Heartbeat)

            async def end() -> None:
                await trio.testing.wait_all_tasks_blocked()
                source.end_all()

            nursery.start_soon(end)
            assert await frames.next() == End()

    run(main)


def test_handoff_after_everything_published(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        db, _ = fill(store)
        async with connect(source, peer=7) as frames, connect(source, peer=8) as other:
            await frames.until(Heartbeat)
            await other.until(Heartbeat)
            db.write({1: b"last"})
            given: list[int] = []

            def give() -> None:
                given.append(db.pos.txid)
                store.writable = False
                source.end_all()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.hand_over, 7, Offer("session", give))
                found = await frames.until(End)
            assert given == [4]
            assert summary(found) == [("db", 4, 4), HWM(0, "db"), Handoff("session"), End()]
            assert isinstance((await other.until(End))[-1], End)
            with pytest.raises(StreamError, match="target node is not currently connected"):
                await source.hand_over(9, Offer("session", give))

    run(main)


def test_refusals(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        with pytest.raises(StreamError, match="cannot connect to self"):
            await source.stream(posmap.encode({}), None, 0x11)
        with pytest.raises(StreamError, match="position map: EOF"):
            await source.stream(b"\0\0\0\1", None, 2)
        store.writable = False
        with pytest.raises(ReadOnly, match="lease expired"):
            await source.stream(posmap.encode({}), None, 2)
        assert len(source) == 0

    run(main)


def test_a_stalled_replica_loses_its_snapshot_not_our_locks(store: FakeStore, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody reads: after the time limit the worker lets go of the snapshot by itself."""

    async def main() -> None:
        store.compress = False
        source = StreamServer(cast(Any, store), snapshot_limit=0.3)
        db = store.add("db")
        db.write(dict.fromkeys(range(1, 20000), b"x"))
        async with connect(source) as frames:
            await frames.stream.__anext__()
            await frames.stream.__anext__()
            while not db.snapshots[0].closed:
                await trio.sleep(0.01)
            rest = b"".join([piece async for piece in frames.stream])
            assert not rest.endswith(b"\0\0\0\3")  # no End inside an LTX file
        assert len(source) == 0

    run(main, real_time=True)
    assert "cannot stream to node 0000000000000002" in caplog.text


def test_leaving_in_the_middle_of_a_snapshot(store: FakeStore, source: StreamServer) -> None:
    async def main() -> None:
        store.compress = False
        db = store.add("db")
        db.write(dict.fromkeys(range(1, 20000), b"x"))
        async with connect(source) as frames:
            await frames.stream.__anext__()
            await frames.stream.__anext__()
        assert db.snapshots[0].closed
        assert len(source) == 0

    run(main)


def test_an_error_ends_the_stream(
    store: FakeStore, source: StreamServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        fill(store)

        def broken(*args: object) -> None:
            raise OSError(5, "disk on fire")

        monkeypatch.setattr(catchup, "read_batch", broken)
        db = store.databases["db"]
        async with connect(source, {"db": Pos(1, ltx.CHECKSUM_FLAG)}) as frames:
            assert await frames.next() == End()
        assert db.published.txid == 3

    run(main)
    assert "disk on fire" in caplog.text


def test_the_term_is_the_peers_once_nothing_is_postponed(
    store: FakeStore, source: StreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that cannot be sent yet may be a tail that lost, on the peer's side."""

    async def main() -> None:
        db, _ = fill(store)
        source.term = 7
        locked = True

        @asynccontextmanager
        async def snapshot(patience: float = 10.0) -> AsyncIterator[Any]:
            if locked:
                raise DatabaseBusy("db is locked")
            async with free(patience) as found:
                yield found

        free = db.snapshot
        monkeypatch.setattr(db, "snapshot", snapshot)
        async with aclosing(await source.stream(posmap.encode({"db": BAD}), None, 2, tell_term=True)) as stream:
            frames = Frames(stream)
            assert await frames.next() == Term(7, whole=False)
            assert await frames.next() == Ready()
            for _ in range(3):
                assert isinstance(await frames.next(), Heartbeat)
            locked = False
            found = [frame for frame in await frames.until(Term) if not isinstance(frame, Heartbeat)]
            assert summary(found) == [("db", 1, 3), Term(7, whole=True)]

    run(main)
