"""Parts that live together: started one by one, stopped in reverse order, each with a deadline.

Shutdown is nested scopes. Every part runs in one nursery, but its life is an ``async with`` block of the body that
started it, so leaving the body, for whatever reason, ends the parts from the innermost to the outermost::

    async def body() -> None:
        async with life.part("store", run_store):
            async with life.part("mount", run_mount, leave=unmount):
                await trio.sleep_forever()

    await life.run(body)

Asking to stop (:meth:`Lifecycle.stop`) cancels the body only. The parts around it go on working while the inner ones
end: an application's last commit still needs the mount, the mount's last answer the store.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from litefs.errors import LitefsError

log = logging.getLogger(__name__)

HURRY = 1.0  # seconds that a part gets once the user has asked again
Work = Callable[[], Awaitable[object]]


class Start(Protocol):
    """The work of a part: says that it is up, then works until cancelled."""

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> object: ...


class PartEnded(LitefsError):
    """A part that should live as long as its process ended by itself."""


@dataclass(slots=True, eq=False)
class _Part:
    name: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    leaving: bool = False


class Lifecycle:
    """What the parts of one process have in common: the request to stop, patience, and the first failure."""

    def __init__(self) -> None:
        self._stopping = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._failure: Exception | None = None
        self._grace = math.inf
        self._waits: set[trio.CancelScope] = set()

    async def run(self, body: Work) -> None:
        """Run ``body`` until it returns, fails or is stopped, then all that it started is gone.

        Raises what made the body or the first part fail. An exception that came while stopping is logged only.
        """
        async with trio.open_nursery() as self._nursery:
            try:
                with self._stopping:
                    await body()
            except Exception as error:
                self.fail(error)
            self._nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ask for an orderly end."""
        self._stopping.cancel()

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called, or something failed."""
        return self._stopping.cancel_called

    def hurry(self, grace: float = HURRY) -> None:
        """Asked to stop again: no part gets more than ``grace`` seconds from now on."""
        self._grace = min(self._grace, grace)
        for wait in self._waits:
            wait.deadline = min(wait.deadline, trio.current_time() + self._grace)

    def fail(self, error: Exception) -> None:
        """Stop everything because of this error, which :meth:`run` raises if it is the first."""
        if self._failure is None:
            self._failure = error
        elif unwrap(error) is not unwrap(self._failure):
            log.error("while stopping: %s", error, exc_info=not isinstance(unwrap(error), (LitefsError, OSError)))
        self.stop()

    @asynccontextmanager
    async def part(
        self,
        name: str,
        start: Start,
        *,
        leave: Callable[[trio.Event], Awaitable[object]] | None = None,
        grace: float = 5.0,
    ) -> AsyncIterator[None]:
        """Have ``start`` work while the block lasts; entered once it has said that it is up.

        Args:
            name: for the log.
            start: raises, before it says that it is up, to fail the block; after that, to stop everything. So does
                returning.
            leave: asks the work to end by itself; gets the event that is set when it has.
            grace: seconds that ``leave`` has before the work is cancelled.
        """
        assert self._nursery is not None
        part = _Part(name)
        await self._nursery.start(self._live, part, start, name=name)
        try:
            yield
        except Exception as error:
            self.fail(error)  # now, before parts that end because of it can fail as well
            raise
        finally:
            part.leaving = True
            if leave is not None:
                await self._leave(part, leave, grace)
            part.scope.cancel()
            with trio.CancelScope(shield=True):
                await part.ended.wait()

    async def _live(self, part: _Part, start: Start, task_status: trio.TaskStatus[None]) -> None:
        up = _Up(task_status)
        try:
            with part.scope:
                await start(task_status=up)
            if not part.leaving:
                raise PartEnded(f"{part.name} ended unexpectedly")
        except Exception as error:
            if not up.reported:
                raise  # into the block that starts it
            self.fail(error)
        finally:
            part.ended.set()

    async def _leave(self, part: _Part, leave: Callable[[trio.Event], Awaitable[object]], grace: float) -> None:
        with self.patience(grace) as wait:
            try:
                await leave(part.ended)
            except Exception as error:
                self.fail(error)
        if wait.cancelled_caught:
            log.warning("%s does not end within %.1f seconds, going on without it", part.name, min(grace, self._grace))

    @contextmanager
    def patience(self, seconds: float) -> Iterator[trio.CancelScope]:
        """A block that is not cancelled with the body, but after ``seconds``, or sooner when the user is in a hurry."""
        deadline = trio.current_time() + min(seconds, self._grace)
        with trio.CancelScope(deadline=deadline, shield=True) as wait:
            self._waits.add(wait)
            try:
                yield wait
            finally:
                self._waits.discard(wait)


class _Up:
    """Passes ``started()`` on and remembers it."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self.reported = False
        self._task_status = task_status

    def started(self, value: None = None) -> None:
        self.reported = True
        self._task_status.started(value)


def at_once(work: Work) -> Start:
    """The start of work that needs no time to come up."""

    async def start(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await work()

    return start


def unwrap(error: Exception) -> Exception:
    """The exception inside groups of one, which is how nurseries hand on what failed in them."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
