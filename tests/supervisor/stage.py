"""A node whose role the test decides, and commands that tell what happens to them."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from litefs.config import ExecCommand
from litefs.config.commands import Kind
from litefs.extensions import ExecContext
from litefs.hookspecs import hookimpl
from litefs.plugins import BUILTIN, Plugin, Plugins
from litefs.supervisor import Command, Policies, Supervisor

LIMIT = 30.0  # seconds that a test waits for anything


class Stage:
    """The situation of one node."""

    def __init__(self, *, primary: bool = False, candidate: bool = True) -> None:
        self.primary = primary
        self.candidate = candidate
        self.done = trio.Event()
        self._changed = trio.Event()

    def context(self) -> ExecContext:
        return ExecContext("h", candidate=self.candidate, is_primary=self.primary, primary="h" if self.primary else "p")

    def become(self, *, primary: bool) -> None:
        """Change the role."""
        self.primary = primary
        self._changed.set()
        self._changed = trio.Event()

    async def wait_change(self) -> None:
        await self._changed.wait()

    async def primary_done(self) -> bool:
        done = False

        async def follow(scope: trio.CancelScope) -> None:
            nonlocal done
            await self.done.wait()
            done = True
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, nursery.cancel_scope)
            await self.wait_change()
            nursery.cancel_scope.cancel()
        return done


class Extra:
    """A plugin with further policies."""

    def __init__(self, *policies: Any) -> None:
        self._policies = policies

    @hookimpl
    def litefs_exec_policies(self) -> list[Any]:
        return list(self._policies)


def supervisor(stage: Stage, commands: Sequence[Command], *policies: Any, **options: Any) -> Supervisor:
    """A supervisor with the built-in policies and others."""
    plugins = Plugins([BUILTIN, Plugin("extra", Extra(*policies))])
    return Supervisor(commands, policies=Policies(stage, plugins), **options)


def command(
    argv: str | Sequence[str], /, kind: Kind = Kind.SERVICE, essential: bool = False, **options: Any
) -> Command:
    """A command; policies as keywords with underscores, like ``if_primary=True``."""
    known = set(ExecCommand.__dataclass_fields__)
    policies = {key.replace("_", "-"): options.pop(key) for key in list(options) if key not in known}
    entry = ExecCommand("", policies, kind, essential=essential, **options)
    return Command(("sh", "-c", argv) if isinstance(argv, str) else tuple(argv), entry)


def python(code: str, *arguments: object) -> list[str]:
    """Words that run a Python program."""
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true."""
    with trio.fail_after(LIMIT):
        while not condition():
            await trio.sleep(0.005)


def lines(path: Path) -> list[str]:
    """What commands have written there, if anything."""
    return path.read_text().splitlines() if path.exists() else []


@asynccontextmanager
async def living(supervisor: Supervisor):
    """The supervisor at work; stopped at the end of the block."""
    async with trio.open_nursery() as nursery:
        up = trio.Event()

        async def work() -> None:
            await supervisor.prepare()
            await supervisor.run(up.set)

        nursery.start_soon(work)
        await up.wait()  # without a limit, which a virtual clock would jump to
        yield
        nursery.cancel_scope.cancel()
