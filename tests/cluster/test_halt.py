"""Who may write a database instead of the primary's applications, and for how long. Virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from litefs.cluster.halt import ACQUIRE_LIMIT, CHECK, TTL, Halts
from litefs.cluster.role import Role
from litefs.errors import DatabaseNotFound, HaltError, PositionMismatch, ReadOnly
from litefs.leases import PrimaryInfo
from litefs.live import Busy
from litefs.ltx import EMPTY, Header, Pos, Trailer
from litefs.store.events import EventHub
from tests.support import virtualtime

A, B = 0xA, 0xB


class FakeLive:
    """The client process: one writer at a time."""

    def __init__(self) -> None:
        self.held = False
        self.application = False  # one of ours is writing

    async def hold(self, note: Callable[[bytes], None], *, deadline: float) -> None:
        with trio.move_on_after(max(0.0, deadline)):
            while self.application or self.held:
                await trio.sleep(0.1)
        if self.application or self.held:
            raise Busy("another writer is active")
        self.held = True
        note(b"")

    async def unhold(self) -> None:
        await trio.lowlevel.checkpoint()
        self.held = False


class FakeDatabase:
    def __init__(self, store: FakeStore, name: str) -> None:
        self.store, self.name = store, name
        self.pos = Pos(7, EMPTY | 7)
        self.incoming = trio.Lock()
        self.halt: Any = None
        self.live = FakeLive()
        self.applied: list[Header] = []
        self.state, self.publisher = None, SimpleNamespace(in_doubt=None)

    @contextmanager
    def using_live(self) -> Iterator[FakeLive]:
        yield self.live

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()

    async def apply_ltx(self, path: Path, header: Header, trailer: Trailer, *, local: bool, halt: Any) -> Pos:
        assert local
        assert self.halt is halt
        assert self.live.held
        self.applied.append(header)
        self.pos = Pos(header.max_txid, trailer.post_apply)
        return self.pos


class FakeClient:
    pid = 1


class FakeStore:
    node_id = 1
    writable = True

    def __init__(self) -> None:
        self.client = FakeClient()
        self.databases = {"db": FakeDatabase(self, "db")}

    async def database(self, name: str, *, create: bool = False) -> FakeDatabase:
        if create:
            self.databases.setdefault(name, FakeDatabase(self, name))
        if name not in self.databases:
            raise DatabaseNotFound(name)
        return self.databases[name]


class Node:
    """A primary, with its halts."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.db = self.store.databases["db"]
        self.role = Role("me", candidate=True, events=EventHub())
        self.role.lead()
        self.halts = Halts(cast(Any, self.store), self.role, now=trio.current_time)

    async def write(self, lock_id: int, node_id: int, txid: int, sum_: int = 9, commit: int = 2) -> Pos:
        header = Header(4096, commit, txid, txid, pre_apply=EMPTY | 7, node_id=node_id)
        return await self.halts.write("db", lock_id, node_id, Path("x"), header, Trailer(EMPTY | sum_, EMPTY))


def run(test: Callable[[Node], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr("litefs.store.halt.time", cast(Any, _Time))
        node = Node()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.halts.run)
            await trio.testing.wait_all_tasks_blocked()
            await test(node)
            nursery.cancel_scope.cancel()
        assert not node.db.live.held
        assert node.db.halt is None

    virtualtime.run(main)


class _Time:
    """`FakeLive` gets what is left of the time instead of a deadline."""

    @staticmethod
    def monotonic() -> float:
        return 0.0


def test_one_holder_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        halt, left = await node.halts.acquire("db", 5, A)
        assert (halt.pos, left) == (node.db.pos, TTL)
        assert node.db.live.held
        began = trio.current_time()
        with pytest.raises(HaltError, match="another node"):
            await node.halts.acquire("db", 6, B)
        assert trio.current_time() - began == pytest.approx(ACQUIRE_LIMIT)
        await node.halts.release("db", 4)  # another lock's id
        assert node.db.live.held
        await node.halts.release("db", 5)
        assert not node.db.live.held
        await node.halts.release("db", 5)
        assert (await node.halts.acquire("db", 6, B))[0].node_id == B

    run(test, monkeypatch)


def test_the_second_gets_it_when_the_first_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        await node.halts.acquire("db", 5, A)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.halts.acquire, "db", 6, B)
            await trio.sleep(3)
            await node.halts.release("db", 5)
        assert node.halts.holder("db", 6, B).lock_id == 6

    run(test, monkeypatch)


def test_asking_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        halt, _ = await node.halts.acquire("db", 5, A)
        await trio.sleep(10)
        again, left = await node.halts.acquire("db", 5, A)
        assert again is halt
        assert left == pytest.approx(TTL - 10)  # LiteFS's replicas do not prolong
        _, left = await node.halts.acquire("db", 5, A, prolong=True)
        assert left == pytest.approx(TTL)

    run(test, monkeypatch)


def test_silence_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        await node.halts.acquire("db", 5, A)
        await trio.sleep(TTL - 1)
        await node.write(5, A, 8)  # a sign of life
        await trio.sleep(TTL - CHECK)
        assert node.db.live.held
        await trio.sleep(2 * CHECK)
        assert not node.db.live.held
        with pytest.raises(HaltError, match="not held"):
            await node.write(5, A, 9)
        assert len(node.db.applied) == 1

    run(test, monkeypatch)


def test_a_holder_that_keeps_asking_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        await node.halts.acquire("db", 5, A)
        for _ in range(10):
            await trio.sleep(TTL / 2)
            await node.halts.acquire("db", 5, A, prolong=True)
        await node.write(5, A, 8)

    run(test, monkeypatch)


def test_time_that_ran_out_counts_before_anyone_has_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        halt, _ = await node.halts.acquire("db", 5, A)
        halt.expires = trio.current_time()  # as after a suspension
        with pytest.raises(HaltError, match="over"):
            await node.write(5, A, 8)

    run(test, monkeypatch)


def test_only_the_holder_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        with pytest.raises(HaltError, match="not held"):
            await node.write(5, A, 8)
        await node.halts.acquire("db", 5, A)
        for lock_id, node_id in ((5, B), (6, A)):
            with pytest.raises(HaltError, match="not held"):
                await node.write(lock_id, node_id, 8)
        await node.write(5, A, 8)
        assert node.db.pos == Pos(8, EMPTY | 9)

    run(test, monkeypatch)


def test_what_may_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        await node.halts.acquire("db", 5, A)
        for txid in (1, 7, 9):
            with pytest.raises(PositionMismatch):
                await node.write(5, A, txid)
        with pytest.raises(HaltError, match="deleted"):
            await node.write(5, A, 8, commit=0)
        assert await node.write(5, A, 8) == Pos(8, EMPTY | 9)
        assert await node.write(5, A, 8) == Pos(8, EMPTY | 9)  # it did not get the answer
        with pytest.raises(PositionMismatch):
            await node.write(5, A, 8, sum_=10)
        assert len(node.db.applied) == 1

    run(test, monkeypatch)


def test_an_application_that_does_not_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        node.db.live.application = True
        with pytest.raises(HaltError, match="another writer"):
            await node.halts.acquire("db", 5, A)
        node.db.live.application = False
        await node.halts.acquire("db", 5, A)

    run(test, monkeypatch)


def test_giving_up_while_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        node.db.live.application = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_given_up, node)
            await trio.sleep(1)
            await node.halts.release("db", 5)
        node.db.live.application = False
        await trio.sleep(1)
        assert not node.db.live.held

    async def _given_up(node: Node) -> None:
        with pytest.raises(HaltError, match="given up"):
            await node.halts.acquire("db", 5, A)

    run(test, monkeypatch)


def test_whoever_waits_and_goes_away_does_not_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        node.db.live.application = True
        with trio.move_on_after(1):
            await node.halts.acquire("db", 5, A)
        node.db.live.application = False
        await trio.sleep(1)
        assert not node.db.live.held

    run(test, monkeypatch)


def test_only_on_the_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        await node.halts.acquire("db", 5, A)
        node.store.writable = False
        with pytest.raises(ReadOnly):
            await node.write(5, A, 8)
        node.role.follow(PrimaryInfo("other", "http://other:1"))
        await trio.sleep(0.01)
        assert not node.db.live.held
        with pytest.raises(ReadOnly):
            await node.halts.acquire("db", 5, A)

    run(test, monkeypatch)


def test_it_ends_with_the_process_that_has_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        await node.halts.acquire("db", 5, A)
        node.store.client.pid = 2
        await trio.sleep(2 * CHECK)
        with pytest.raises(HaltError, match="not held"):
            await node.write(5, A, 8)

    run(test, monkeypatch)


def test_unknown_and_new_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        with pytest.raises(DatabaseNotFound):
            await node.halts.release("none", 5)
        await node.halts.acquire("new", 5, A)
        await node.halts.release("new", 5)

    run(test, monkeypatch)
