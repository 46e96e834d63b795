"""The client against the real HTTP server, against peers that misbehave, and with databases that cannot keep up."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from litefs import ltx
from litefs.errors import CorruptDatabase, StreamError
from litefs.ltx import Header, Pos
from litefs.replication import applier, frames, wire
from litefs.replication.client import ReplicationClient
from litefs.replication.ending import Offer

from .fakes import FakeStore
from .nodes import Primary
from .streams import Recorded, Watch, run

CLUSTER = "LFSC0123456789ABCDEF"


def make(tmp_path: Path, **options: Any) -> tuple[Primary, FakeStore, ReplicationClient, Watch]:
    primary = Primary(FakeStore(tmp_path / "a", node_id=0xA, writable=True))
    primary.store.cluster_id = CLUSTER
    replica, watch = FakeStore(tmp_path / "b", node_id=0xB), Watch()
    return primary, replica, ReplicationClient(cast(Any, replica), watch, **options), watch


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.001)


@asynccontextmanager
async def following(client: ReplicationClient, url: str) -> AsyncIterator[list[str | None]]:
    """The client at work in the background; the list gets what it returned."""
    returned: list[str | None] = []

    async def follow() -> None:
        returned.append(await client.follow(url))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        yield returned
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "h2c"])
def test_a_replica_follows(tmp_path: Path, http2: bool) -> None:
    async def main() -> None:
        primary, replica, client, watch = make(tmp_path)
        db = primary.store.add("db")
        db.write({1: b"one", 2: b"two"})
        db.hwm = 1
        async with primary.served():
            if http2:
                primary.forced = (426, b"Upgrade to HTTP/2 required\n")
            async with following(client, primary.url) as returned:
                await until(lambda: watch.heartbeats)
                assert watch.ready
                assert replica.cluster_id == CLUSTER
                assert replica.databases["db"].pages == db.pages
                for n in range(50):
                    db.write({3: b"%d" % n})
                other = primary.store.add("other")
                other.write({1: b"x"})
                await replica.wait("db", db.pos)
                await replica.wait("other", other.pos)
                assert replica.databases["db"].applied == [(1, 1), *((n, n) for n in range(2, 52))]
                assert replica.databases["db"].hwm == 1
                assert client.lags["db"] < 60
                assert len(primary.streams) == 1
                primary.streams.end_all()
                await until(lambda: returned)
            db.write({1: b"away"})
            async with following(client, primary.url):
                await replica.wait("db", db.pos)
            assert replica.databases["db"].applied[-1] == (52, 52)
        assert [version for version, _ in primary.requests] == (["1.1", "2", "2"] if http2 else ["1.1", "1.1"])

    run(main, real_time=True)


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "h2c"])
def test_big_files_never_sit_in_memory(tmp_path: Path, http2: bool) -> None:
    async def main() -> None:
        primary, replica, client, _ = make(tmp_path)
        primary.store.compress = False
        db = primary.store.add("db")
        db.page_size = 65536
        db.write({n: b"%d" % n * 1000 for n in range(1, 400)})
        async with primary.served():
            if http2:
                primary.forced = (426, b"")
            async with following(client, primary.url):
                await replica.wait("db", db.pos)
                db.write({n: b"%d" % -n * 1000 for n in range(1, 200)})
                await replica.wait("db", db.pos)
        assert replica.databases["db"].pages == db.pages
        assert leftovers(replica) == []

    run(main, real_time=True)


def leftovers(store: FakeStore) -> list[str]:
    return [path.name for path in store.data_dir.rglob("*.tmp")]


def test_filter(tmp_path: Path) -> None:
    async def main() -> None:
        primary, replica, client, watch = make(tmp_path, databases=["one & only", "three"])
        for name in ("one & only", "two", "three"):
            primary.store.add(name).write({1: b"x"})
        async with primary.served(), following(client, primary.url):
            await until(lambda: watch.heartbeats)
        assert sorted(replica.databases) == ["one & only", "three"]

    run(main, real_time=True)


def test_cluster_ids(tmp_path: Path) -> None:
    async def main() -> None:
        primary, replica, client, _ = make(tmp_path)
        replica.cluster_id = "LFSCFFFFFFFFFFFFFFFF"
        expected = f"cannot stream from primary with a different cluster id: {CLUSTER} <> {replica.cluster_id}"
        async with primary.served():
            with pytest.raises(StreamError, match=expected):
                await client.follow(primary.url)
        assert replica.cluster_id == "LFSCFFFFFFFFFFFFFFFF"

    run(main, real_time=True)


def test_refusals(tmp_path: Path) -> None:
    async def main() -> None:
        primary, _, client, _ = make(tmp_path)
        async with primary.served():
            primary.store.writable = False
            with pytest.raises(StreamError, match="code=503 lease expired"):
                await client.follow(primary.url)
            primary.store.node_id = 0xB
            with pytest.raises(StreamError, match="code=400 cannot connect to self"):
                await client.follow(primary.url)
        with pytest.raises(StreamError, match=r"cannot connect to 127.0.0.1:\d+: .*refused"):
            await client.follow(primary.url)
        for url in ("", "host:20202", "ftp://host", "http://", "http://host:99999", "http://[::1"):
            with pytest.raises(StreamError, match="advertise-url looks like"):
                await client.follow(url)

    run(main, real_time=True)


def test_handoff(tmp_path: Path) -> None:
    async def main() -> None:
        primary, replica, client, watch = make(tmp_path)
        db = primary.store.add("db")
        async with primary.served(), following(client, primary.url) as returned:
            await until(lambda: watch.heartbeats)
            db.write({1: b"last"})
            await primary.streams.hand_over(0xB, Offer("session", lambda: None))
            await until(lambda: returned)
            assert returned == ["session"]
            assert replica.databases["db"].pos == db.pos

    run(main, real_time=True)


# -------------------------------------------------------------------------------------------------- peers gone wrong


async def serve_bytes(answer: bytes, stream: trio.SocketStream, *, stay: bool = False) -> None:
    """Answer the request with these bytes after a good head."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for at in range(0, len(answer), 1000):
        piece = answer[at : at + 1000]
        await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
    if stay:
        await trio.sleep_forever()
    await stream.send_all(b"0\r\n\r\n")
    await stream.aclose()


@asynccontextmanager
async def peer(handler: Callable[[trio.SocketStream], Awaitable[object]]) -> AsyncIterator[str]:
    """A server that does as the handler says; its URL."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def transaction(txid: int, before: Pos, page: bytes, node_id: int = 5) -> tuple[bytes, Pos]:
    data = page.ljust(512, b".")
    after = ltx.page_checksum(1, data)
    header = Header(512, 1, txid, txid, 0, 0, before.checksum, node_id=node_id)
    return ltx.encode(header, [(1, data)], after), Pos(txid, after)


def history(count: int) -> list[tuple[bytes, Pos]]:
    found, pos = [], Pos(0, 0)
    for txid in range(1, count + 1):
        file, pos = transaction(txid, pos, b"%d" % txid)
        found.append((file, pos))
    return found


END = frames.READY + frames.heartbeat(7) + frames.END


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", None),
        (frames.READY, None),
        (b"\xff\xff\xff\xff", "unknown frame type"),
        (frames.READY[:3], "ended inside a frame"),
        (frames.ltx_start("db") + frames.chunks(b"LTX1"), "ended inside a frame"),
        (frames.ltx("db", b"LTX1"), "cannot apply transaction to \"db\": .*ends inside its header"),
        (frames.ltx("db", history(1)[0][0] + b"more"), "bytes after the trailer"),
        (frames.ltx("db", bytes(3 << 20)), "not an LTX file"),
        (frames.ltx("db", history(2)[1][0]), "position mismatch"),
        (b"internal server error\n", "unknown frame type"),
    ],
)  # fmt: skip
def test_bad_streams(tmp_path: Path, body: bytes, error: str | None) -> None:
    async def main() -> None:
        _, replica, client, _ = make(tmp_path)
        async with peer(partial(serve_bytes, body)) as url:
            if error is None:
                assert await client.follow(url) is None
            else:
                with pytest.raises(StreamError, match=error):
                    await client.follow(url)
        assert leftovers(replica) == []
        assert await replica.positions() == {}

    run(main, real_time=True)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nbroken", b"HTTP/1.1 404 \r\n\r\n"]
)
def test_peers_that_are_no_node(tmp_path: Path, answer: bytes) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    async def main() -> None:
        _, _, client, _ = make(tmp_path)
        async with peer(handler) as url:
            with pytest.raises(StreamError):
                await client.follow(url)

    run(main, real_time=True)


def test_what_arrived_before_a_break_is_applied(tmp_path: Path) -> None:
    async def main() -> None:
        _, replica, client, watch = make(tmp_path)
        (one, _), (two, at), (three, _) = history(3)
        body = frames.ltx("db", one) + frames.ltx("db", two) + frames.ltx("db", three)[:-10]
        async with peer(partial(serve_bytes, body)) as url:
            with pytest.raises(StreamError, match="ended inside a frame"):
                await client.follow(url)
        assert replica.databases["db"].pos == at
        assert not watch.ready

    run(main, real_time=True)


def test_names_that_cannot_be_databases_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        _, replica, client, _ = make(tmp_path)
        file, pos = history(1)[0]
        names = ["../evil", "db-mj012345678", "a/b", ".", "db-wal"]
        body = b"".join(frames.ltx(name, file) for name in names * 2) + frames.ltx("db", file) + END
        async with peer(partial(serve_bytes, body)) as url:
            await client.follow(url)
        assert {name: db.pos for name, db in replica.databases.items()} == {"db": pos}

    run(main, real_time=True)
    assert len(caplog.records) == 5


def test_a_silent_peer_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        _, _, client, watch = make(tmp_path)
        async with peer(partial(serve_bytes, frames.READY + frames.heartbeat(1), stay=True)) as url:
            with pytest.raises(StreamError, match="nothing received for"):
                await client.follow(url)
        assert watch.ready

    monkeypatch.setattr(wire, "SILENCE", 0.3)
    run(main, real_time=True)


def test_an_answer_before_the_request_was_read(tmp_path: Path) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
        await stream.send_eof()
        with trio.move_on_after(1):
            while await stream.receive_some():
                pass
        await stream.aclose()

    async def main() -> None:
        _, replica, client, _ = make(tmp_path)
        for n in range(20_000):
            db = replica.databases[f"{n:0200}"] = cast(Any, type("D", (), {}))()
            db.published = Pos(1, 1 << 63)
        async with peer(handler) as url:
            with pytest.raises(StreamError, match="code=503 busy"):
                await client.follow(url)

    run(main, real_time=True)


# ------------------------------------------------------------------------------------------------ databases gone wrong


def test_own_transactions_coming_back(tmp_path: Path) -> None:
    async def main() -> None:
        _, replica, client, _ = make(tmp_path)
        first, at = transaction(1, Pos(0, 0), b"1", node_id=0xB)
        second, end = transaction(2, at, b"2", node_id=0xB)
        body = frames.ltx("db", first) + frames.ltx("db", first) + frames.ltx("db", second) + frames.ltx("db", second)
        await client._receive(Recorded(body + END))
        assert replica.databases["db"].applied == [(1, 1), (2, 2)]
        assert replica.databases["db"].pos == end
        assert leftovers(replica) == []

    run(main)


@pytest.mark.parametrize(("error", "tries"), [(CorruptDatabase("bad"), 1), (OSError(28, "disk full"), None)])
def test_what_cannot_be_applied_is_asked_for_anew(tmp_path: Path, error: Exception, tries: int | None) -> None:
    """A snapshot for what cannot be built upon; not when the disk is full, which it would not help."""

    async def main() -> None:
        primary, replica, client, watch = make(tmp_path)
        db, fine = primary.store.add("db"), primary.store.add("fine")
        for one in (db, fine):
            one.write({1: b"one"})
        async with primary.served():
            async with following(client, primary.url):
                await until(lambda: watch.heartbeats)
            replica.databases["db"].fail = error
            db.write({1: b"two"})
            for _ in range(tries or 3):
                with pytest.raises(StreamError, match=re.escape('cannot apply transaction to "db"')):
                    await client.follow(primary.url)
            replica.databases["db"].fail = None
            async with following(client, primary.url):
                await replica.wait("db", db.pos)
            assert replica.databases["db"].applied[-1] == ((1, 2) if tries else (2, 2))
            fine.write({1: b"x"})
            db.write({1: b"three"})
            async with following(client, primary.url):
                await replica.wait("db", db.pos)
                await replica.wait("fine", fine.pos)
            assert replica.databases["db"].applied[-1] == (3, 3)
            assert replica.databases["fine"].applied == [(1, 1), (2, 2)]

    run(main, real_time=True)


def test_a_position_that_keeps_not_fitting_is_healed_by_a_snapshot(tmp_path: Path) -> None:
    """The replica says it is at 2, but has captured one more that was never published."""

    async def main() -> None:
        primary, replica, client, watch = make(tmp_path)
        db = primary.store.add("db")
        db.write({1: b"one"})
        async with primary.served():
            async with following(client, primary.url):
                await until(lambda: watch.heartbeats)
            replica.databases["db"].write({1: b"own"}, publish=False)
            db.write({1: b"two"})
            for _ in range(2):
                with pytest.raises(StreamError, match="position mismatch"):
                    await client.follow(primary.url)
            async with following(client, primary.url):
                await replica.wait("db", db.pos)

    run(main, real_time=True)


def test_a_database_that_nothing_mends_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        primary, replica, client, watch = make(tmp_path)
        db, fine = primary.store.add("db"), primary.store.add("fine")
        replica.add("db").fail = CorruptDatabase("broken")
        db.write({1: b"one"})
        async with primary.served():
            for _ in range(4):
                with pytest.raises(StreamError, match="broken"):
                    await client.follow(primary.url)
            async with following(client, primary.url):
                await until(lambda: watch.heartbeats)
                fine.write({1: b"one"})
                db.write({1: b"two"})
                await replica.wait("fine", fine.pos)
            with pytest.raises(StreamError, match="broken"):
                await client.follow(primary.url)
            replica.databases["db"].fail = None
            async with following(client, primary.url):
                await until(lambda: len(watch.heartbeats) > 1)
            async with following(client, primary.url):
                await replica.wait("db", db.pos)

    run(main, real_time=True)
    assert caplog.text.count("is not replicated until the next connection") == 2


def test_a_locked_database_does_not_hold_up_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        primary, replica, client, watch = make(tmp_path)
        slow, fast = primary.store.add("slow"), primary.store.add("fast")
        slow.write({1: b"1"})
        async with primary.served(), following(client, primary.url):
            await until(lambda: watch.heartbeats)
            replica.databases["slow"].busy = trio.Event()
            for n in range(20):
                slow.write({1: b"%d" % n})
                fast.write({1: b"%d" % n})
            await replica.wait("fast", fast.pos)
            beats = len(watch.heartbeats)
            await trio.sleep(1.5)
            assert len(watch.heartbeats) == beats  # not everything up to now has been applied
            assert replica.databases["slow"].pos.txid == 1
            replica.databases["slow"].busy.set()
            await replica.wait("slow", slow.pos)
            await until(lambda: len(watch.heartbeats) > beats)
            assert len(primary.requests) == 1

    run(main, real_time=True)
    assert caplog.text.count("slow is locked") == 1


def test_a_database_locked_for_long_is_shed_and_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(applier, "BACKLOG", 20_000)
    monkeypatch.setattr(applier, "STALL", 0.1)

    async def main() -> None:
        primary, replica, client, watch = make(tmp_path)
        primary.store.compress = False
        slow, fast = primary.store.add("slow"), primary.store.add("fast")
        slow.write({1: b"1"})
        async with primary.served(), following(client, primary.url):
            await until(lambda: watch.heartbeats)
            replica.databases["slow"].busy = trio.Event()
            for n in range(200):
                slow.write({1: b"%d" % n})
            for n in range(20):
                fast.write({1: b"%d" % n})
            await replica.wait("fast", fast.pos)
            slow.write(dict.fromkeys(range(1, 5000), b"long"))
            fast.write({1: b"end"})
            await replica.wait("fast", fast.pos)
            replica.databases["slow"].busy.set()
            await replica.wait("slow", slow.pos)
            assert replica.databases["slow"].applied == [(n, n) for n in range(1, 203)]
            assert len(primary.requests) == 2
        assert leftovers(replica) == []

    run(main, real_time=True)
    assert "dropping" in caplog.text


def test_heartbeats_wait_for_what_came_before(tmp_path: Path) -> None:
    async def main() -> None:
        _, replica, client, watch = make(tmp_path)
        db = replica.add("db")
        db.busy = trio.Event()
        (one, _), (two, _) = history(2)
        body = frames.ltx("db", one) + frames.READY + frames.heartbeat(1) + frames.ltx("db", two) + frames.heartbeat(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._receive, Recorded(body))
            await trio.testing.wait_all_tasks_blocked()
            assert (watch.ready, watch.heartbeats) == (False, [])
            db.busy.set()
        assert (watch.ready, watch.heartbeats) == (True, [1, 2])

    run(main)


class Terms:
    """Remembers what it is told."""

    def __init__(self, held: int = 0) -> None:
        self.held = held
        self.told: list[tuple[str, int]] = []

    def heard(self, term: int) -> None:
        """Remembers."""
        self.told.append(("heard", term))

    def follow(self, term: int) -> None:
        """Remembers."""
        self.told.append(("follow", term))


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "h2c"])
def test_the_term_of_the_primary(tmp_path: Path, http2: bool) -> None:
    """A peer that does not ask for it (over HTTP/2: LiteFS) is not told, and one that is not told has none."""

    async def main() -> None:
        terms = Terms(5)
        primary, replica, client, watch = make(tmp_path, terms=terms)
        primary.streams.term = 7
        db = primary.store.add("db")
        db.write({1: b"one"})
        async with primary.served():
            if http2:
                primary.forced = (426, b"")
            async with following(client, primary.url):
                await until(lambda: watch.heartbeats)
                assert replica.databases["db"].pos == db.pos
                assert terms.told == ([("follow", 0)] if http2 else [("heard", 7), ("heard", 7), ("follow", 7)])

    run(main, real_time=True)


@pytest.mark.parametrize("term", [7, 0])
def test_a_term_is_followed_once_everything_is_applied(tmp_path: Path, term: int) -> None:
    async def main() -> None:
        terms = Terms(5)
        primary, replica, client, watch = make(tmp_path, terms=terms)
        primary.streams.term = term
        primary.store.add("db").write({1: b"one"})
        busy = replica.add("db")
        busy.busy = trio.Event()  # it takes nothing
        async with primary.served(), following(client, primary.url):
            await until(lambda: client._receiver is not None and client._receiver.reads > 3)
            await trio.sleep(0.2)
            assert ("follow", term) not in terms.told
            busy.busy.set()
            await until(lambda: watch.heartbeats)
            assert terms.told[-1] == ("follow", term)

    run(main, real_time=True)


def test_part_of_the_databases_is_nobodys_history(tmp_path: Path) -> None:
    async def main() -> None:
        terms = Terms(5)
        primary, _, client, watch = make(tmp_path, terms=terms, databases=["db"])
        primary.streams.term = 7
        primary.store.add("db").write({1: b"one"})
        async with primary.served(), following(client, primary.url):
            await until(lambda: watch.heartbeats)
            assert terms.told == []

    run(main, real_time=True)
