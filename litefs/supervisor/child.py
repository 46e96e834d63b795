"""One child process: started, waited for, and ended the way the user asked for."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import subprocess
from collections.abc import Mapping

import trio

from litefs.errors import LitefsError
from litefs.supervisor.command import Command

log = logging.getLogger(__name__)

KILLED = 255  # the exit code LiteFS gives a child that died of a signal
GRACE = 3.0  # seconds between the user's second request to stop and SIGKILL


class ExecError(LitefsError):
    """A command could not be started, or one of the first ones failed."""


class Child:
    """A running command; made by :func:`start`."""

    def __init__(self, command: Command, process: trio.Process) -> None:
        self.command = command
        self._process = process
        self._patience = trio.CancelScope(shield=True)  # cancelled or out of time: SIGKILL

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """0..255, minus the signal's number, or None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it is gone; its return code. Cancelling the wait leaves it running."""
        return await self._process.wait()

    def send(self, number: int) -> None:
        """Send a signal, if it is still there to get one."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.Signals(number))

    async def end(self, number: int | None) -> int:
        """Pass a signal on (None: it has it already) and wait, shielded, as long as :meth:`hurry` is not called.

        There is no deadline of our own: an application that needs a minute to end its work gets it. Whoever stops
        the node (systemd, a container runtime, an impatient user) has one.
        """
        if number is not None:
            self.send(number)
        with self._patience:
            await self._process.wait()
        if self._process.returncode is None:
            log.warning("%s does not end, killing it", self.command)
            self.send(signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await self._process.wait()
        returncode = self._process.returncode
        assert returncode is not None
        return returncode

    def hurry(self) -> None:
        """Asked to stop again: SIGTERM and :data:`GRACE` seconds the first time, none the next."""
        again = self._patience.deadline < math.inf
        self._patience.deadline = trio.current_time() + (0 if again else GRACE)
        if not again:
            self.send(signal.SIGTERM)


async def start(command: Command, *, stdin: int | None = subprocess.DEVNULL) -> Child:
    """Start a command with our stdout and stderr, and our stdin where ``stdin`` is None.

    It stays in our process group: that keeps Ctrl-C and job control of a terminal as they are without litefs.

    Raises:
        ExecError: there is no such program, or it may not be run.
    """
    try:
        process = await trio.lowlevel.open_process(command.argv, stdin=stdin, env=_environment())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ExecError(f"cannot execute {command.argv[0]}: {reason}", f"in exec command: {command}") from None
    return Child(command, process)


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


def _environment() -> Mapping[str, str]:
    # HOSTNAME is there as it is for ${HOSTNAME} in litefs.yml. The notify socket is ours: an application that says
    # READY or STOPPING there would speak for the node.
    environment = {"HOSTNAME": socket.gethostname(), **os.environ}
    environment.pop("NOTIFY_SOCKET", None)
    return environment
