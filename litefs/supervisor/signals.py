"""The signals that end a node, and where they came from."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import trio

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""Each of these asks for a clean stop. A hang-up means that the terminal is gone, which ends a node like any other."""

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


def for_child(number: int) -> int | None:
    """The signal to pass on to a child when we got ``number``; None when the child has it already.

    A terminal sends Ctrl-C and Ctrl-\\ to its whole foreground process group, which our child is in. Twice would mean
    "at once" to many programs. A hang-up becomes SIGTERM, because for many servers SIGHUP is "read your configuration".
    """
    if number == signal.SIGHUP:
        return signal.SIGTERM
    if number in (signal.SIGINT, signal.SIGQUIT) and in_foreground():
        return None
    return number


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
