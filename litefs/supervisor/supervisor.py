"""Runs the commands of ``exec``: all but the last to completion, the last one for as long as the node lives."""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable, Sequence

import trio

from litefs.supervisor import child as children
from litefs.supervisor import signals
from litefs.supervisor.child import Child, ExecError
from litefs.supervisor.command import Command

log = logging.getLogger(__name__)

GROUP_SIGNAL = 0.2
"""Seconds in which a signal that a command died of may turn out to be meant for us as well.

Ctrl-C goes to all processes of the terminal, and the command may be gone before we hear of it: still a clean stop.
"""

Skip = Callable[[Command], Awaitable[str | None]]
"""Why a command shall not run on this node now, or None when it shall."""


async def never(_: Command) -> None:
    """The policy that runs everything."""


class Supervisor:
    """One node's commands.

    Both coroutines end the running command when they are cancelled, by the signal that :attr:`stop_signal` holds
    at that time, and wait for its end, shielded.

    Args:
        commands: in the order of litefs.yml.
        skip: asked before each command.
        say: told what is being waited for, when that is the end of a command.
    """

    def __init__(
        self, commands: Sequence[Command], *, skip: Skip = never, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._commands = list(commands)
        self._skip = skip
        self._say = say
        self._child: Child | None = None
        self.stop_signal: int | None = signal.SIGTERM
        """What a child is sent when the node stops; None when it has got that signal by itself."""
        self.exit_code: int | None = None
        """The exit code that the last command gives the daemon, once it ended; None when there was none."""
        self.returncode: int | None = None
        """How the last command ended: its own exit code, or minus the number of the signal that it died of."""

    @property
    def child(self) -> Child | None:
        """The command that runs now."""
        return self._child

    async def prepare(self) -> None:
        """Run all commands but the last, one after the other.

        Raises:
            ExecError: one could not be started, or failed.
        """
        for command in self._commands[:-1]:
            if await self._wanted(command):
                log.info("running command: %s", command)
                self._child = await children.start(command)
                try:
                    returncode = await self._ended(self._child)
                finally:
                    self._child = None
                if returncode != 0:
                    raise ExecError(f"exec command failed: {command}", children.describe(returncode))

    async def run(self, up: Callable[[], None]) -> int | None:
        """Start the last command, call ``up()``, wait for the command's end; the daemon's exit code.

        None, right after ``up()``, when there is no last command for this node. It gets our stdin.

        Raises:
            ExecError: it could not be started; ``up()`` was not called then.
        """
        last = self._commands[-1:]
        if not last or not await self._wanted(last[0]):
            up()
            return None
        log.info("starting command: %s", last[0])
        self._child = await children.start(last[0], stdin=None)
        try:
            up()
            self.returncode = await self._ended(self._child)
            if -self.returncode in signals.STOPPING:
                await trio.sleep(GROUP_SIGNAL)
            self.exit_code = children.exit_code(self.returncode)
        except trio.Cancelled:
            # It ended because we were told to: dying of that signal is what was asked for. Its own code is passed on.
            self.exit_code = max(self._child.returncode or 0, 0)
            raise
        finally:
            self._child = None
        return self.exit_code

    def pass_on(self, number: int) -> None:
        """Hand a signal that is not about stopping to the running command, if there is one."""
        if self._child is not None:
            self._child.send(number)

    def hurry(self) -> None:
        """The user asked again: see :meth:`Child.hurry`."""
        if self._child is not None:
            self._child.hurry()

    async def _wanted(self, command: Command) -> bool:
        reason = await self._skip(command)
        if reason is not None:
            log.info("skipping command: %s: %s", command, reason)
        return reason is None

    async def _ended(self, child: Child) -> int:
        try:
            return await child.wait()
        except trio.Cancelled:
            self._say("sending signal to exec process")
            self._say("waiting for exec process to close")
            await child.end(self.stop_signal)
            raise


def say(text: str) -> None:
    """Print one of the plain lines LiteFS prints, which are no log lines. A closed stdout is no reason to fail."""
    try:
        print(text, flush=True)
    except OSError:
        log.debug("cannot write to stdout: %s", text)
