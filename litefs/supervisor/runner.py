"""One command under its policies: started when they admit it, stopped when they do not, never twice at a time."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable

import trio

from litefs.config.commands import GRACE
from litefs.supervisor import child as children
from litefs.supervisor import signals
from litefs.supervisor.backoff import Backoff
from litefs.supervisor.child import Child, ExecError
from litefs.supervisor.command import Command
from litefs.supervisor.policies import Policies
from litefs.supervisor.signals import Stop

log = logging.getLogger(__name__)

LATE = 1.0
"""Seconds in which a failed command may turn out to have failed because this node is not primary any more.

The right to write goes first, the news of it come after.
"""


class Runner:
    """Runs one command again and again, each run after the end of the one before.

    Args:
        command: with its options.
        policies: asked before each run and during it.
        stop: asked, when a run is cancelled, how to end it.
        mark: for its output; see :func:`litefs.supervisor.child.start`.
        stdin: None for ours.
        apart: in a process group of its own.

    Attributes:
        child: the process, while there is one.
        returncode: of the last run; None before the end of the first.
    """

    def __init__(
        self,
        command: Command,
        policies: Policies,
        stop: Callable[[], Stop],
        *,
        mark: str = "",
        stdin: int | None = subprocess.DEVNULL,
        apart: bool = False,
    ) -> None:
        self.command = command
        self.policies = policies
        self.child: Child | None = None
        self.returncode: int | None = None
        self._stop = stop
        self._mark = mark
        self._stdin = stdin
        self._apart = apart
        self._up: Callable[[], None] = _nothing
        self._busy = False  # from before the process is there until it is gone
        self._idle = trio.Event()

    async def once(self) -> int | None:
        """Start the command and wait for its end: its return code, or None when the policies had it stopped.

        Cancelled, it has the process end first, by the signal that the node got.

        Raises:
            ExecError: it could not be started.
            PluginError: a policy failed.
        """
        self._busy = True
        try:
            self.child = await children.start(self.command, stdin=self._stdin, apart=self._apart, mark=self._mark)
            self._up()
            return await self._live(self.child)
        finally:
            if self.child is not None:
                self.returncode = self.child.returncode
            self.child, self._busy = None, False
            self._idle.set()

    async def _live(self, child: Child) -> int | None:
        refusal: str | None = None

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal refusal
            refusal = await self.policies.wait_refusal(self.command)
            scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, nursery.cancel_scope)
                await child.wait()
                nursery.cancel_scope.cancel()
        finally:
            # Whoever ended the wait, and be it both the policies and the node: the process ends here.
            if child.returncode is not None:
                refusal = None  # it ended by itself, just in time
                with trio.CancelScope(shield=True):
                    await child.wait()
            elif refusal is not None:
                await self._withdraw(child, refusal)
            else:
                await child.end(self._farewell(child), self.command.entry.grace)
        return None if refusal is not None else child.returncode

    async def _withdraw(self, child: Child, refusal: str) -> None:
        log.info("stopping command: %s: %s", self.command, refusal)
        grace = self.command.entry.grace
        await child.end(self.command.entry.signal or signals.DEFAULT, GRACE if grace is None else grace)

    def _farewell(self, child: Child) -> int | None:
        """The signal with which the command ends when the node does; None where it has got that already."""
        stop = self._stop()
        if stop.shared and not child.apart:
            return None
        return self.command.entry.signal or stop.for_child

    async def settle(self) -> None:
        """Wait until the command does not run, if it is not to run now."""
        while self._busy and not self.policies.judge(self.command).admits:
            self._idle = trio.Event()
            await self._idle.wait()

    # -------------------------------------------------------------------------------------------- to completion

    async def complete(self, tell: Callable[[str], None]) -> None:
        """Run it to a successful end, if it is for this node; wait for the primary, if that runs it.

        Args:
            tell: told what is going on.

        Raises:
            ExecError: it could not be started, or failed.
            PluginError: a policy failed.
        """
        while True:
            verdict = self.policies.judge(self.command)
            if verdict.admits is False:
                log.info("skipping command: %s: %s", self.command, verdict.reason)
                return
            if verdict.admits is None:
                log.info("waiting for the primary: %s: %s", self.command, verdict.reason)
                tell(f"waiting for the primary to run a command that comes first: {self.command.name}")
                if await self.policies.situation.primary_done():
                    return
                continue
            log.info("running command: %s", self.command)
            tell(f"running a command that comes first: {self.command.name}")
            returncode = await self.once()
            if returncode == 0:
                return
            if returncode is not None and not await self._outrun():
                raise ExecError(f"exec command failed: {self.command}", children.describe(returncode))

    async def _outrun(self) -> bool:
        """Whether the policies do not admit the command any more, or will not in a moment."""
        if not self.command.conditions:
            return False
        with trio.move_on_after(LATE):
            reason = await self.policies.wait_refusal(self.command)
            log.info("command failed: %s: %s", self.command, reason)
            return True
        return False

    # -------------------------------------------------------------------------------------------- side by side

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> int:
        """Have it run whenever the policies admit it, until it has ended for good: its return code.

        Reports that it is up as soon as the process is there, or is known not to be for now. One that is not
        essential never ends for good.

        Raises:
            ExecError: it is essential and could not be started.
            PluginError: a policy failed.
        """
        self._up = _first_only(task_status.started)
        backoff = Backoff()
        while True:
            await self._admission()
            started = trio.current_time()
            returncode = await self._attempt()
            if returncode is None:
                backoff.reset()
            elif self._again(returncode):
                await self._pause(backoff, returncode, trio.current_time() - started)
            elif self.command.entry.essential:
                return returncode
            else:
                log.info("command ended: %s: %s", self.command, children.describe(returncode))
                await self.policies.wait_refusal(self.command)

    async def _admission(self) -> None:
        """Wait until it may run."""
        told = ""
        while not (verdict := self.policies.judge(self.command)).admits:
            if verdict.reason != told:
                log.info("not starting command: %s: %s", self.command, verdict.reason)
                told = verdict.reason
            self._up()
            await self.policies.situation.wait_change()

    async def _attempt(self) -> int | None:
        log.info("starting command: %s", self.command)
        try:
            return await self.once()
        except ExecError as error:
            if self.command.entry.essential:
                raise
            log.error("%s", error)
            self._up()
            return children.NOT_FOUND

    def _again(self, returncode: int) -> bool:
        restart = self.command.entry.restart
        return restart == "always" or (restart == "on-failure" and returncode != 0)

    async def _pause(self, backoff: Backoff, returncode: int, ran: float) -> None:
        """Wait before the next run; a change of the role ends the wait, and forgets why there was one."""
        seconds = backoff.pause(ran)
        text = "command ended after %.1fs: %s: %s; starting it again in %gs (restart %d)"
        log.warning(text, ran, self.command, children.describe(returncode), seconds, backoff.failures)
        with trio.move_on_after(seconds):
            await self.policies.wait_refusal(self.command)
            backoff.reset()


def _nothing() -> None:
    pass


def _first_only(call: Callable[[], None]) -> Callable[[], None]:
    waiting = [call]
    return lambda: waiting.pop()() if waiting else None
