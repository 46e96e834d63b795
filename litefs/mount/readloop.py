"""Reading requests with fewer trips through trio's scheduler.

A few tasks of pyfuse3 take turns: one holds a lock, waits until the device is readable, lets go of the lock, and reads
a request and answers it. With trio's own lock and wait each request costs three trips through the scheduler, which is
more than most requests take to be answered. Here the lock is free of them: who has answered a request without having
to wait takes it again at once, and another task is woken only when a request has to wait for something (`handing_over`,
around every request handler), or when the task that was reading ends. The device is asked first whether there is
something to read, and waited for only when there is not.

pyfuse3 uses trio through a global of its module, which its asyncio support replaces in the same way. Checked with
pyfuse3 3.5.0 and with 3.4.0, which has made its lock before it can be replaced and gains only the rest. Where the
module looks different it is left alone, which costs nothing but time.
"""

from __future__ import annotations

import logging
import select
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pyfuse3
import trio

log = logging.getLogger(__name__)

T = TypeVar("T")

IN_A_ROW = 32  # requests read without letting other tasks run: a few milliseconds at most


class _Turn:
    """Whose turn it is to read. Stands for a `trio.Lock`."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._taken:
            await self._waiting.park()
        self._taken = True

    async def __aexit__(self, *details: object) -> None:
        self._taken = False

    def hand_over(self) -> None:
        """Let somebody else read, if nobody does."""
        if not self._taken:
            self._waiting.unpark()


_turn = _Turn()  # pyfuse3 has one session a process


class _Lowlevel:
    """Stands for `trio.lowlevel`."""

    def __init__(self) -> None:
        self._poll: select.poll | None = None
        self._in_a_row = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, fd: int) -> None:
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
        if self._in_a_row < IN_A_ROW and self._poll.poll(0):
            self._in_a_row += 1
            return
        self._in_a_row = 0
        await trio.lowlevel.wait_readable(fd)


class _Nursery:
    """Stands for the nursery of the tasks that read."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, task: Callable[..., Awaitable[object]], *args: object, name: object = None) -> None:
        async def run() -> None:
            try:
                await task(*args)
            finally:
                _turn.hand_over()

        self._nursery.start_soon(run, name=name)


class _Trio:
    """Stands for `trio`."""

    def __init__(self) -> None:
        self.lowlevel = _Lowlevel()

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    @staticmethod
    def Lock() -> _Turn:
        return _turn

    @asynccontextmanager
    async def open_nursery(self) -> AsyncIterator[_Nursery]:
        async with trio.open_nursery() as nursery:
            yield _Nursery(nursery)


def install() -> None:
    """Make pyfuse3 read like this, if it looks as it should. Before its loop runs."""
    global _turn
    if getattr(pyfuse3, "trio", None) is trio:
        _turn = _Turn()
        setattr(pyfuse3, "trio", _Trio())  # noqa: B010 - a global that its type information does not tell of
    else:
        log.debug("pyfuse3 %s is not known: requests are read in its own way", pyfuse3.__version__)


@types.coroutine
def handing_over(request: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await a request handler; somebody else reads on if it does not come to its end at once."""
    try:
        trap = request.send(None)
        _turn.hand_over()
        while True:
            try:
                result = yield trap
            except BaseException as error:
                trap = request.throw(error)
            else:
                trap = request.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
