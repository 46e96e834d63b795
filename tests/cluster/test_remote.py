"""A replica's right to write: how long it lasts, and commits whose answer does not come. Virtual time."""

from __future__ import annotations

import errno
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from litefs.cluster.peers import PeerResponse
from litefs.cluster.remote import OPEN_LIMIT, TTL, RemoteHalts
from litefs.cluster.role import Role
from litefs.errors import StreamError
from litefs.leases import PrimaryInfo
from litefs.ltx import EMPTY, Pos, format_checksum, format_txid
from litefs.store.events import EventHub
from litefs.store.writethrough import Sending
from tests.support import virtualtime

HERE = Pos(7, EMPTY | 7)
NEXT = Pos(8, EMPTY | 8)
PRIMARY = PrimaryInfo("a", "http://a:20202")


class FakePeers:
    """The primary, as far as it can be reached."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.pos = HERE
        self.prolongs = True
        self.down = False
        self.hangs = False
        self.status = 200
        self.text = ""

    async def request(self, method: str, url: str, path: str, body: Any = b"", **options: Any) -> PeerResponse:
        await trio.lowlevel.checkpoint()
        self.asked.append((method, path.partition("?")[0]))
        if self.hangs:
            await trio.sleep_forever()
        if self.down:
            raise StreamError("cannot connect")
        pos = {"TXID": format_txid(self.pos.txid), "PostApplyChecksum": format_checksum(self.pos.checksum)}
        headers = {"litefs-halt": "prolonged"} if self.prolongs else {}
        return PeerResponse(self.status, headers, self.text.encode() or json.dumps({"pos": pos}).encode())


class FakeDatabase:
    name = "db"

    def __init__(self) -> None:
        self.pos = HERE
        self.moved = trio.Event()
        self.unfinished = None
        self.writer: Any = None

    async def close_live(self) -> None:
        await trio.lowlevel.checkpoint()


class FakeStore:
    writable = False


class Node:
    """A replica."""

    def __init__(self, tmp_path: Path) -> None:
        self.peers = FakePeers()
        self.db = FakeDatabase()
        self.role = Role("me", candidate=True, events=EventHub())
        self.role.follow(PRIMARY)
        store, peers = cast(Any, FakeStore()), cast(Any, self.peers)
        self.remote = RemoteHalts(store, self.role, peers, now=trio.current_time)
        self.file = tmp_path / "x.ltx"
        self.file.write_bytes(b"x")

    async def open(self) -> None:
        await self.remote.open(cast(Any, self.db))

    def close(self) -> None:
        self.remote.close(cast(Any, self.db))

    @property
    def writable(self) -> bool:
        return self.db.writer is not None and self.db.writer.valid

    def sending(self) -> Sending:
        return Sending(self.file, NEXT)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Node], Awaitable[None]]], None]:
    def run(test: Callable[[Node], Awaitable[None]]) -> None:
        async def main() -> None:
            node = Node(tmp_path)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.remote.run)
                await trio.testing.wait_all_tasks_blocked()
                await test(node)
                nursery.cancel_scope.cancel()
            assert not node.writable

        virtualtime.run(main)

    return run


Run = Callable[[Callable[[Node], Awaitable[None]]], None]


def test_it_lasts_until_the_last_one_has_closed(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        await node.open()
        assert node.peers.asked == [("POST", "/halt")]
        await trio.sleep(10 * TTL)
        assert node.writable  # prolonged
        node.close()
        await trio.sleep(1)
        assert node.writable
        node.close()
        await trio.sleep(1)
        assert not node.writable
        assert node.peers.asked[-1] == ("DELETE", "/halt")

    run(test)


def test_a_primary_that_does_not_prolong_is_not_asked_again(run: Run) -> None:
    async def test(node: Node) -> None:
        node.peers.prolongs = False
        await node.open()
        await trio.sleep(TTL - 1)
        assert node.writable
        await trio.sleep(2)
        assert not node.writable
        assert node.peers.asked == [("POST", "/halt"), ("DELETE", "/halt")]

    run(test)


def test_it_ends_when_the_primary_cannot_be_asked(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.peers.down = True
        await trio.sleep(TTL / 2)
        node.peers.down = False
        await trio.sleep(TTL)
        assert node.writable  # it could in the end
        node.peers.down = True
        await trio.sleep(TTL + 1)
        assert not node.writable

    run(test)


def test_time_that_ran_out_counts_before_anyone_has_looked(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.db.writer._expires = trio.current_time()
        assert not node.writable
        with pytest.raises(OSError, match="lost"):
            await node.db.writer.commit(node.sending())

    run(test)


@pytest.mark.parametrize("primary", [None, PrimaryInfo("b", "http://b:20202")])
def test_it_ends_with_the_connection(run: Run, primary: PrimaryInfo | None) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.role.follow(primary)
        await trio.sleep(0.01)
        assert not node.writable
        node.role.follow(PRIMARY)
        await trio.sleep(0.01)
        assert not node.writable
        await node.open()
        assert node.writable

    run(test)


def test_it_ends_when_others_have_written(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.peers.pos = NEXT  # it ran out there, and was given again
        await trio.sleep(TTL / 2)
        assert not node.writable

    run(test)


def test_why_it_cannot_be_had(run: Run) -> None:
    async def test(node: Node) -> None:
        node.peers.status, node.peers.text = 500, "acquire halt lock: no"
        with pytest.raises(OSError, match="acquire halt lock: no"):
            await node.open()
        node.peers.status, node.peers.text = 503, "lease expired"
        with pytest.raises(OSError, match="lease expired") as caught:
            await node.open()
        assert caught.value.errno == errno.EHOSTUNREACH
        node.peers.status, node.peers.text = 200, "nonsense"
        with pytest.raises(OSError, match="makes no sense"):
            await node.open()
        node.peers.text, node.peers.down = "", True
        with pytest.raises(OSError, match="cannot connect"):
            await node.open()
        node.peers.down, node.peers.hangs = False, True
        began = trio.current_time()
        with pytest.raises(OSError, match="another node holds it"):
            await node.open()
        assert trio.current_time() - began == pytest.approx(OPEN_LIMIT)
        node.peers.hangs, node.peers.pos = False, NEXT
        with pytest.raises(OSError, match="does not reach the position"):
            await node.open()
        node.role.follow(None)
        with pytest.raises(OSError, match="no primary"):
            await node.open()
        await trio.sleep(TTL)
        assert node.peers.asked[-1] == ("DELETE", "/halt")  # it might have been given after all

    run(test)


def test_it_waits_until_this_node_has_everything(run: Run) -> None:
    async def test(node: Node) -> None:
        node.peers.pos = NEXT
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.open)
            await trio.sleep(5)
            assert not node.writable
            node.db.pos = NEXT
            node.db.moved.set()
        assert node.writable

    run(test)


def test_a_commit_is_sent_again_until_it_is_answered(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.peers.down = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.db.writer.commit, node.sending())
            await trio.sleep(3)
            node.peers.down = False
        assert node.peers.asked.count(("POST", "/tx")) > 3

    run(test)


def test_a_refused_commit_is_not_sent_again(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.peers.status, node.peers.text = 500, "cannot apply ltx: no"
        with pytest.raises(OSError, match="cannot apply ltx: no"):
            await node.db.writer.commit(node.sending())
        assert node.peers.asked.count(("POST", "/tx")) == 1

    run(test)


def test_the_stream_is_answer_enough(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.peers.hangs = True
        sending = node.sending()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.db.writer.commit, sending)
            await trio.sleep(3)
            sending.came_back.set()
        node.peers.hangs = False

    run(test)


def test_a_commit_does_not_outlast_the_right(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.peers.hangs = True
        began = trio.current_time()
        with pytest.raises(OSError, match="the halt lock is lost"):
            await node.db.writer.commit(node.sending())
        assert trio.current_time() - began < TTL + 2
        node.peers.hangs = False

    run(test)


def test_closing_waits_for_the_commit_that_is_under_way(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.open()
        node.peers.hangs = True
        sending = node.sending()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.db.writer.commit, sending)
            await trio.sleep(0.1)
            node.close()
            await trio.sleep(1)
            assert ("DELETE", "/halt") not in node.peers.asked
            node.peers.hangs = False
            sending.came_back.set()
        await trio.sleep(0.1)
        assert node.peers.asked[-1] == ("DELETE", "/halt")

    run(test)
