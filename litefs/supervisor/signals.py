"""The signals that end a node, and where they came from."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import trio

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""Each of these asks for a clean stop. A hang-up means that the terminal is gone, which ends a node like any other."""

DEFAULT = signal.SIGTERM
"""Asks a command to end where nothing else was asked for."""

PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
"""These mean nothing to a node: they are its child's. By default they would kill the daemon."""


async def watch(
    on_stop: Callable[[int], None],
    on_other: Callable[[int], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call back for each signal until cancelled. Must run in the main thread, as Python wants it for signals."""
    # nohup and some service managers ignore signals on purpose: leave those ignored.
    wanted = [number for number in (*STOPPING, *PASSED_ON) if signal.getsignal(number) != signal.SIG_IGN]
    with trio.open_signal_receiver(*wanted) as signals:
        task_status.started()
        async for number in signals:
            (on_stop if number in STOPPING else on_other)(number)


@dataclass(frozen=True, slots=True)
class Stop:
    """A request to end, as it concerns commands.

    Args:
        number: the signal that the node got.
        shared: whether a terminal has sent it to every process of our group as well. Ctrl-C and Ctrl-\\ go to the
            whole foreground process group; sent twice, they would mean "at once" to many programs.
    """

    number: int = DEFAULT
    shared: bool = False

    @property
    def for_child(self) -> int:
        """The signal to pass on. A hang-up becomes SIGTERM: for many servers SIGHUP is "read your configuration"."""
        return signal.SIGTERM if self.number == signal.SIGHUP else self.number


def received(number: int) -> Stop:
    """The request that a signal which has just arrived makes."""
    return Stop(number, shared=number in (signal.SIGINT, signal.SIGQUIT) and in_foreground())


def in_foreground() -> bool:
    """Whether our process group is the one that its terminal's keys send signals to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
