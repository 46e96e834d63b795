"""Bounded pipes between the trio thread and one worker thread: big LTX files are encoded and verified there.

Both keep a few megabytes at most and let the two sides run at once: while one piece is on the wire the next one is
being compressed or verified. The worker blocks on a condition variable, the trio side waits for an event that the
worker sets through trio's own wake-up; so neither a busy worker nor a stalled peer holds up the event loop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")

PIECE = 256 << 10
"""Bytes per piece handed over: a hand-over costs about 30 us, sending a piece of this size about 200 us."""

DEPTH = 8
"""Pieces in a full pipe."""


class PipeClosed(Exception):
    """The trio side gave the pipe up: the worker shall stop. Not an error."""


class PipeTimeout(Exception):
    """The worker's time limit passed while the other side stalled."""


class _Pipe:
    """What both directions share: a queue, one lock, one wake-up of the trio side."""

    def __init__(self, name: str) -> None:
        self._items: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._done = False
        self._error: BaseException | None = None
        self._wakeup = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def _main(self) -> None:
        try:
            self._work()
        except PipeClosed:
            pass
        except BaseException as error:
            self._error = error
        with self._changed:
            self._done = True
        self._wake()

    def _work(self) -> None:
        raise NotImplementedError

    def _wake(self) -> None:
        """Called by the worker: let the trio side look again."""
        try:
            self._token.run_sync_soon(self._wakeup.set, idempotent=False)
        except trio.RunFinishedError:
            self._closed = True

    async def _wait(self) -> None:
        """Sleep until the worker changed something. Call only after a look at the queue under the lock."""
        await self._wakeup.wait()

    async def aclose(self) -> None:
        """Stop the worker and wait until it let go of everything. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
        with trio.CancelScope(shield=True):
            while True:
                with self._changed:
                    if self._done:
                        return
                    self._wakeup = trio.Event()
                await self._wait()


class Output:
    """The function that a worker is given, as a file to write to.

    Args:
        write: takes bytes of any size, and all of them.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.write = write


class FromThread(_Pipe):
    """A worker writes, trio reads: piece by piece with `get`, or by iterating.

    Args:
        produce: runs in the worker with a function that takes bytes of any size; that function raises PipeClosed or
            PipeTimeout, which ``produce`` must let through after cleaning up.
        limit: seconds after which the write function raises PipeTimeout, whatever the reader does.
    """

    def __init__(self, produce: Callable[[Callable[[bytes | memoryview], None]], None], *, limit: float) -> None:
        super().__init__("litefs-snapshot")
        self._produce = produce
        self._deadline = time.monotonic() + limit
        self._pending: list[bytes | memoryview] = []
        self._pending_size = 0
        self._thread.start()

    def _work(self) -> None:
        self._produce(self._write)
        self._flush()

    def _write(self, data: bytes | memoryview) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= PIECE:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        piece = b"".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        with self._changed:
            while len(self._items) >= DEPTH and not self._closed:
                left = self._deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise PipeTimeout
            if self._closed:
                raise PipeClosed
            if time.monotonic() > self._deadline:
                raise PipeTimeout
            self._items.append(piece)
        self._wake()

    def __aiter__(self) -> FromThread:
        return self

    async def __anext__(self) -> bytes:
        if piece := await self.get():
            return piece
        raise StopAsyncIteration

    async def get(self) -> bytes:
        """The next piece, b"" at the end. Raises what ``produce`` raised, after the pieces written before."""
        while True:
            with self._changed:
                if self._items:
                    self._changed.notify()
                    return self._items.popleft()
                if self._done:
                    break
                self._wakeup = trio.Event()
            await self._wait()
        if self._error is not None:
            raise self._error
        return b""


class ToThread(_Pipe, Generic[T]):
    """Trio writes, a worker reads from it as from a file.

    Args:
        consume: runs in the worker with a function ``read(n)`` that gives 1 to n bytes, b"" at the end; it raises
            PipeClosed when the trio side gives up.
    """

    def __init__(self, consume: Callable[[Callable[[int], bytes]], T]) -> None:
        super().__init__("litefs-receive")
        self._consume = consume
        self._result: T | None = None
        self._ended = False
        self._head = memoryview(b"")
        self._thread.start()

    def _work(self) -> None:
        self._result = self._consume(self._read)

    def _read(self, size: int) -> bytes:
        if not self._head:
            with self._changed:
                while not self._items and not self._ended and not self._closed:
                    self._changed.wait()
                if self._closed:
                    raise PipeClosed
                self._head = memoryview(self._items.popleft()) if self._items else self._head
            self._wake()
        piece, self._head = bytes(self._head[:size]), self._head[size:]
        return piece

    async def put(self, data: bytes) -> None:
        """Hand over a piece (best PIECE bytes or more). Raises what ``consume`` raised, as soon as it did."""
        while True:
            with self._changed:
                if self._done:
                    break
                if len(self._items) < DEPTH:
                    self._items.append(data)
                    self._changed.notify()
                    return
                self._wakeup = trio.Event()
            await self._wait()
        if self._error is not None:
            raise self._error

    async def finish(self) -> T:
        """Say that the data is complete and wait for the result of ``consume``, or what it raised."""
        while True:
            with self._changed:
                self._ended = True
                self._changed.notify()
                if self._done:
                    break
                self._wakeup = trio.Event()
            await self._wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result
