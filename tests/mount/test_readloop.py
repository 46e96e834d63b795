"""How requests are read: nobody starves, and reading goes on whatever requests wait for."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pyfuse3
import pytest
import trio
import trio.testing

from litefs.mount import readloop
from litefs.mount.kernel import unmount
from tests.support.nodes import Node

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.executescript("PRAGMA journal_mode=wal; PRAGMA synchronous=normal; CREATE TABLE t(v)")
print("writing", flush=True)
while True:
    connection.execute("INSERT INTO t VALUES(1)")
"""


@pytest.fixture
def facade() -> Iterator[SimpleNamespace]:
    """What pyfuse3 gets for trio."""
    before = pyfuse3.trio  # type: ignore[attr-defined]
    readloop.install()
    yield pyfuse3.trio  # type: ignore[attr-defined]
    pyfuse3.trio = before  # type: ignore[attr-defined]


class Session:
    """pyfuse3's loop, with a pipe for the device; each byte is a request."""

    def __init__(self, facade: SimpleNamespace, answer: Callable[[int], Awaitable[None]]) -> None:
        self._trio = facade
        self._answer = answer
        self.source, self.sink = os.pipe()
        self._lock = facade.Lock()
        self.readers = self.tasks = 0

    async def run(self, min_tasks: int = 4) -> None:
        async with self._trio.open_nursery() as nursery:
            self.tasks = 1
            nursery.start_soon(self._work, nursery, min_tasks, name="reader")

    async def _work(self, nursery: trio.Nursery, min_tasks: int) -> None:
        while self.readers <= min_tasks:
            self.readers += 1
            async with self._lock:
                await self._trio.lowlevel.wait_readable(self.source)
            self.readers -= 1
            request = os.read(self.source, 1)
            if not request:
                break
            if not self.readers:
                self.tasks += 1
                nursery.start_soon(self._work, nursery, min_tasks)
            await self._answer(request[0])
        self.tasks -= 1


def test_other_tasks_run_while_requests_wait_to_be_read(facade: SimpleNamespace) -> None:
    async def main() -> None:
        source, sink = os.pipe()
        os.write(sink, b"x")
        turns = 0

        async def read() -> None:
            for _ in range(1600):
                await facade.lowlevel.wait_readable(source)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1
        assert turns >= 40

    trio.run(main)


def test_reading_goes_on_while_requests_wait(facade: SimpleNamespace) -> None:
    async def main() -> None:
        gate = trio.Event()
        done: list[int] = []

        async def answer(number: int) -> None:
            async def handle() -> None:
                if number < 20:
                    await gate.wait()
                elif number == 20:
                    gate.set()
                done.append(number)

            await readloop.handing_over(handle())

        session = Session(facade, answer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            with trio.fail_after(5):
                for round_ in range(20):  # tasks come and go: more than the few that may be idle wait at once
                    gate = trio.Event()
                    for number in range(21):
                        os.write(session.sink, bytes([number]))
                        await trio.testing.wait_all_tasks_blocked()
                    os.write(session.sink, bytes([99]) * 40)
                    while len(done) < 61 * (round_ + 1):
                        await trio.testing.wait_all_tasks_blocked()
                os.close(session.sink)
                while session.tasks:  # the end of the file ends them all
                    await trio.testing.wait_all_tasks_blocked()

    trio.run(main)


def test_what_a_request_raises_and_returns() -> None:
    async def request(*, fail: bool) -> int:
        for _ in range(2):
            await trio.sleep(0)
        if fail:
            raise OSError("no")
        return 7

    async def main() -> None:
        assert await readloop.handing_over(request(fail=False)) == 7
        with pytest.raises(OSError, match="no"):
            await readloop.handing_over(request(fail=True))
        with trio.move_on_after(0.01) as scope:
            await readloop.handing_over(trio.sleep_forever())
        assert scope.cancelled_caught

    trio.run(main)


def test_a_module_that_looks_different_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace()
    monkeypatch.setattr(pyfuse3, "trio", other)
    readloop.install()
    assert pyfuse3.trio is other  # type: ignore[attr-defined]


@pytest.mark.alone
def test_the_node_answers_while_applications_write_at_full_speed(node: Node) -> None:
    with ExitStack() as stack:
        for number in range(3):
            arguments = [sys.executable, "-c", WRITER, node.path(f"db{number}")]
            writer = stack.enter_context(subprocess.Popen(arguments, stdout=subprocess.PIPE))
            stack.callback(writer.kill)
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
        took = []
        for _ in range(30):
            begin = time.monotonic()
            with urllib.request.urlopen(f"{node.url}/livez", timeout=10) as response:
                assert response.status == 200
            took.append(time.monotonic() - begin)
    assert sorted(took)[len(took) // 2] < 0.5


def test_unmounting_from_outside_ends_the_node(node: Node) -> None:
    connection = sqlite3.connect(node.path("db"))
    connection.execute("CREATE TABLE t(v)")
    connection.close()
    node.expected.append("cannot unmount")
    unmount(node.mount)
    assert node.process is not None
    node.process.wait(20)
