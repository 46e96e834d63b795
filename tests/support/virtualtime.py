"""Trio's virtual clock for tests: it jumps to the next deadline when everyone waits, but not for a worker thread."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import trio
import trio.testing

from litefs.replication.pipes import _Pipe

T = TypeVar("T")

in_thread = trio.to_thread.run_sync
wait_for_worker = _Pipe._wait


def run(main: Callable[[], Awaitable[None]], *, threshold: float = 0.0) -> None:
    """Run under the virtual clock. What worker threads do takes no time, however slow the disk is.

    Args:
        main: the test.
        threshold: real seconds for which nothing must happen before the clock jumps; for tests with sockets.
    """
    clock = trio.testing.MockClock(autojump_threshold=threshold)
    waiting = 0

    @contextmanager
    def standing_still() -> Iterator[None]:
        nonlocal waiting
        waiting += 1
        clock.autojump_threshold = math.inf
        try:
            yield
        finally:
            waiting -= 1
            if not waiting:
                clock.autojump_threshold = threshold

    async def run_sync(call: Callable[..., T], *args: Any, **options: Any) -> T:
        with standing_still():
            return await in_thread(call, *args, **options)

    async def wait(pipe: _Pipe) -> None:
        with standing_still():
            await wait_for_worker(pipe)

    with patch("trio.to_thread.run_sync", run_sync), patch.object(_Pipe, "_wait", wait):
        trio.run(main, clock=clock)
