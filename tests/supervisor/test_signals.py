import os
import pty
import signal
import subprocess
import sys
import textwrap

import trio
import trio.testing

from litefs.supervisor import signals


def test_watch_sorts_signals():
    seen = []

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(signals.watch, lambda n: seen.append(("stop", n)), lambda n: seen.append(("other", n)))
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
                signal.raise_signal(number)
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert seen == [("stop", signal.SIGTERM), ("other", signal.SIGUSR1), ("stop", signal.SIGHUP)]


def test_a_signal_ignored_from_outside_stays_ignored():
    seen = []

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(signals.watch, seen.append, seen.append)
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trio.run(main)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [signal.SIGTERM]


def test_what_a_child_is_sent(monkeypatch):
    monkeypatch.setattr(signals, "in_foreground", lambda: False)
    assert signals.received(signal.SIGTERM).for_child == signal.SIGTERM
    assert signals.received(signal.SIGINT).for_child == signal.SIGINT
    assert signals.received(signal.SIGHUP).for_child == signal.SIGTERM
    assert not signals.received(signal.SIGINT).shared
    monkeypatch.setattr(signals, "in_foreground", lambda: True)
    assert not signals.received(signal.SIGTERM).shared
    assert signals.received(signal.SIGINT).shared  # the terminal sent it to the child as well


PROBE = "from litefs.supervisor.signals import in_foreground; print(in_foreground())"


def test_not_in_the_foreground_without_a_terminal():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, start_new_session=True)
    assert done.stdout == "False\n"


def test_in_the_foreground_of_a_terminal():
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", textwrap.dedent(PROBE)])
    with os.fdopen(terminal, "rb", buffering=0) as output:
        said = output.read(100)
    os.waitpid(pid, 0)
    assert said.strip() == b"True"
