"""What the conformance suites have in common: each coroutine ``check_*`` is there as a method ``test_*``, too.

pytest and unittest collect the tests of a subclass; each runs its check under trio. A check that does not apply raises
unittest.SkipTest with the reason, which pytest understands, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.abc


class Suite:
    """Checks that run as tests.

    Attributes:
        limit: seconds that one check may take.
    """

    limit = 60.0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, check in list(vars(cls).items()):
            if name.startswith("check_"):
                setattr(cls, name.replace("check_", "test_", 1), _as_test(name, check.__doc__))

    def clock(self) -> trio.abc.Clock | None:
        """The clock to run a check with, such as trio.testing.MockClock(autojump_threshold=0); None for real time."""
        return None

    def run_check(self, check: Callable[[], Awaitable[None]]) -> None:
        """Run one check to its end, under trio."""

        async def main() -> None:
            with trio.fail_after(self.limit):
                await check()

        try:
            trio.run(main, clock=self.clock())
        except BaseExceptionGroup as group:  # of a nursery that everything runs in: the reason is inside
            raise inner(group) from None


def _as_test(name: str, doc: str | None) -> Callable[[Suite], None]:
    def test(self: Suite) -> None:
        self.run_check(getattr(self, name))

    test.__doc__ = doc
    return test


def inner(error: BaseException) -> BaseException:
    """What a group of one exception holds, however deep."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
