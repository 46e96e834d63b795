"""One child process: started, waited for, and ended the way the user asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import trio

from litefs.errors import LitefsError
from litefs.supervisor.command import Command
from litefs.supervisor.output import MarkedOutput

log = logging.getLogger(__name__)

KILLED = 255  # the exit code LiteFS gives a child that died of a signal
GRACE = 3.0  # seconds between the user's second request to stop and SIGKILL
DRAIN = 1.0  # seconds for the last lines of a command that has ended
NOT_FOUND = 127  # return code of a command that could not be started, as a shell has it


class ExecError(LitefsError):
    """A command could not be started, or one of the first ones failed."""


class Child:
    """A running command; made by :func:`start`.

    Attributes:
        apart: whether it has a process group of its own, and so does not get what keys of a terminal send.
    """

    def __init__(self, command: Command, process: trio.Process, output: MarkedOutput | None, *, apart: bool) -> None:
        self.command = command
        self.apart = apart
        self._process = process
        self._output = output
        self._hurried = False
        self._cleared = False
        self._patience = trio.CancelScope(shield=True)  # cancelled or out of time: SIGKILL

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """0..255, minus the signal's number, or None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it is gone; its return code. Cancelling the wait leaves it running."""
        returncode = await self._process.wait()
        await self._clear()
        return returncode

    def send(self, number: int) -> None:
        """Send a signal, if it is still there to get one."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.Signals(number))

    async def end(self, number: int | None, grace: float | None = None) -> int:
        """Pass a signal on (None: it has it already) and wait, shielded, for ``grace`` seconds, then kill it.

        Without a grace there is no deadline of our own until :meth:`hurry` is called: an application that needs a
        minute to end its work gets it. Whoever stops the node (systemd, a container runtime, an impatient user) has
        one.
        """
        if number is not None:
            self.send(number)
        if grace is not None:
            self._allow(grace)
        with self._patience:
            await self._process.wait()
        if self._process.returncode is None:
            log.warning("%s does not end, killing it", self.command)
            self.send(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await self.wait()
        returncode = self._process.returncode
        assert returncode is not None
        return returncode

    def hurry(self) -> None:
        """Asked to stop again: SIGTERM and :data:`GRACE` seconds the first time, none the next."""
        self._allow(0 if self._hurried else GRACE)
        if not self._hurried:
            self._hurried = True
            self.send(signal.SIGTERM)

    def _allow(self, seconds: float) -> None:
        self._patience.deadline = min(self._patience.deadline, trio.current_time() + seconds)

    async def _clear(self) -> None:
        """Kill what it left behind in its group, so that nothing of it runs beside its successor."""
        if self._cleared:
            return
        self._cleared = True
        if self.apart:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        if self._output is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._output.drain, DRAIN)


async def start(
    command: Command, *, stdin: int | None = subprocess.DEVNULL, apart: bool = False, mark: str = ""
) -> Child:
    """Start a command.

    Args:
        command: what to start.
        stdin: None for ours.
        apart: in a process group of its own. Otherwise it stays in ours: that keeps Ctrl-C and job control of a
            terminal as they are without litefs.
        mark: put before each line of its output; where empty, it gets our stdout and stderr.

    Raises:
        ExecError: there is no such program, or it may not be run.
    """
    options: dict[str, Any] = {"stdin": stdin, "env": _environment(command.entry.env)}
    if apart:
        options["process_group"] = 0
    output = MarkedOutput(mark) if mark else None
    try:
        with contextlib.ExitStack() as stack:
            if output is not None:
                options["stdout"], options["stderr"] = stack.enter_context(output.pipes())
            process = await trio.lowlevel.open_process(_argv(command), **options)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ExecError(f"cannot execute {command.argv[0]}: {reason}", f"in exec command: {command}") from None
    return Child(command, process, output, apart=apart)


def exit_code(returncode: int) -> int:
    """The daemon's exit code for a child that ended by itself: its own, or 255 when a signal killed it."""
    return KILLED if returncode < 0 else returncode


def describe(returncode: int) -> str:
    """``exit status 3`` or ``signal: SIGKILL``."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"signal: {signal.Signals(-returncode).name}"
    except ValueError:  # real-time signals have no name
        return f"signal: {-returncode}"


_FROM = """
import os, sys
try:
    os.chdir(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    print(f"cannot execute {sys.argv[2]} in {sys.argv[1]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)
"""


def _argv(command: Command) -> tuple[str, ...]:
    """With a working directory, the command is started by a program that goes there first.

    The directory may be on our own mount. Between fork and exec this process stands still, so it could not answer the
    question what is there.
    """
    if not command.entry.cwd:
        return command.argv
    return (sys.executable, "-I", "-S", "-c", _FROM, command.entry.cwd, *command.argv)


def _environment(added: Mapping[str, str]) -> Mapping[str, str]:
    # HOSTNAME is there as it is for ${HOSTNAME} in litefs.yml. The notify socket is ours: an application that says
    # READY or STOPPING there would speak for the node.
    environment = {"HOSTNAME": socket.gethostname(), **os.environ}
    environment.pop("NOTIFY_SOCKET", None)
    return {**environment, **added}
