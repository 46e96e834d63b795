"""Real children: sh, and Python where a child must handle signals."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import trio
import trio.testing

from litefs.config import ExecCommand
from litefs.config.commands import Kind
from litefs.extensions import ExecContext
from litefs.plugins import BUILTIN, Plugins
from litefs.supervisor import Command, ExecError, Policies, Supervisor, from_line
from litefs.supervisor.signals import Stop

TASK = ExecCommand("", kind=Kind.TASK)


def supervise(*lines, **kw):
    """A plain list: all but the last run to completion."""
    *first, last = lines
    commands = [line if isinstance(line, Command) else from_line(line, TASK) for line in first]
    return Supervisor([*commands, last if isinstance(last, Command) else from_line(last)], **kw)


class Fixed:
    """A situation that never changes."""

    def __init__(self, *, candidate):
        self.candidate = candidate

    def context(self):
        return ExecContext("h", candidate=self.candidate, is_primary=False)

    async def wait_change(self):
        await trio.sleep_forever()

    async def primary_done(self):
        return True


def policies(*, candidate):
    return Policies(Fixed(candidate=candidate), Plugins([BUILTIN]))


async def run(supervisor):
    await supervisor.prepare()
    return await supervisor.run(lambda: None)


@pytest.mark.parametrize(("line", "code"), [("true", 0), ("sh -c 'exit 7'", 7), ("sh -c 'kill -9 $$'", 255)])
def test_exit_codes_of_the_last_command(line, code):
    assert trio.run(run, supervise(line)) == code


def test_nothing_to_run():
    assert trio.run(run, Supervisor([])) is None


def test_commands_run_in_order(tmp_path):
    out = tmp_path / "out"
    lines = [f"sh -c 'echo {n} >> {out}'" for n in range(4)]
    assert trio.run(run, supervise(*lines)) == 0
    assert out.read_text() == "0\n1\n2\n3\n"


def test_a_failed_first_command_stops_the_start(tmp_path):
    flag = tmp_path / "flag"
    with pytest.raises(ExecError, match="exec command failed: sh -c 'exit 3': exit status 3"):
        trio.run(run, supervise("true", "sh -c 'exit 3'", f"touch {flag}"))
    assert not flag.exists()


@pytest.mark.parametrize("lines", [["/no/such/program", "true"], ["true", "/no/such/program"], ["/etc/passwd"]])
def test_a_command_that_cannot_start(lines):
    with pytest.raises(ExecError, match="cannot execute /"):
        trio.run(run, supervise(*lines))


def test_policy_skips(caplog):
    skipped = from_line("false", ExecCommand("", {"if-candidate": True}, Kind.TASK))
    caplog.set_level("INFO", logger="litefs")
    assert trio.run(run, supervise(skipped, "sh -c 'exit 4'", policies=policies(candidate=False))) == 4
    assert "skipping command: false: node is not a candidate" in caplog.text
    with pytest.raises(ExecError):
        trio.run(run, supervise(skipped, "true", policies=policies(candidate=True)))


def test_a_last_command_that_is_not_for_this_node_leaves_it_up():
    supervisor = supervise(
        from_line("true", ExecCommand("", {"if-candidate": True})), policies=policies(candidate=False)
    )

    async def main():
        up = trio.Event()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.run, up.set)
                await up.wait()
                await trio.testing.wait_all_tasks_blocked()
                assert not supervisor.running
                scope.cancel()
        assert supervisor.exit_code is None

    trio.run(main)


def test_hostname_is_in_the_environment_and_the_notify_socket_is_not(tmp_path, monkeypatch):
    monkeypatch.delenv("HOSTNAME", raising=False)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    out = tmp_path / "out"
    trio.run(run, supervise(f"sh -c 'echo $HOSTNAME,$NOTIFY_SOCKET > {out}'"))
    assert out.read_text().strip() == os.uname().nodename + ","


def python_child(code):
    return Command((sys.executable, "-c", textwrap.dedent(code)))


def cancelled_when(path, supervisor, *, then=lambda: None):
    """Run until path exists, then cancel; call then() once the cancellation is under way. Returns the exit code."""

    async def main():
        async with trio.open_nursery() as nursery:
            stopping = trio.CancelScope()

            async def cancel():
                with trio.fail_after(20):
                    while not path.exists():
                        await trio.sleep(0.01)
                stopping.cancel()
                await trio.testing.wait_all_tasks_blocked()
                result = then()
                if result is not None:
                    await result

            nursery.start_soon(cancel)
            with stopping:
                await run(supervisor)
        return supervisor.exit_code

    return trio.run(main)


CATCHER = """
    import pathlib, signal, sys, time
    signal.signal(signal.{name}, lambda *_: sys.exit({code}))
    pathlib.Path({flag!r}).touch()
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("code", [0, 9])
def test_cancelling_passes_the_signal_on_and_the_code_back(tmp_path, name, code):
    flag = tmp_path / "flag"
    supervisor = supervise(python_child(CATCHER.format(name=name, code=code, flag=str(flag))))
    supervisor.stop = Stop(getattr(signal, name))
    assert cancelled_when(flag, supervisor) == code


def test_dying_of_the_signal_passed_on_is_a_clean_end(tmp_path):
    flag = tmp_path / "flag"
    assert cancelled_when(flag, supervise(f"sh -c 'touch {flag}; exec sleep 60'")) == 0


def test_a_command_that_dies_of_the_same_signal_before_we_hear_of_it(tmp_path):
    """Ctrl-C in a terminal: the signal goes to both."""
    flag = tmp_path / "flag"
    assert cancelled_when(flag, supervise(f"sh -c 'touch {flag}; kill -INT $$'")) == 0


def test_a_first_command_gets_the_signal_too(tmp_path):
    flag = tmp_path / "flag"
    assert cancelled_when(flag, supervise(f"sh -c 'touch {flag}; exec sleep 60'", "true")) is None


def test_asked_again_the_child_is_killed(tmp_path):
    flag = tmp_path / "flag"
    code = f"""
        import pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(flag)!r}).touch()
        time.sleep(60)
    """
    supervisor = supervise(python_child(code))

    def twice():
        supervisor.hurry()
        supervisor.hurry()

    assert cancelled_when(flag, supervisor, then=twice) == 0


def test_other_signals_are_passed_on(tmp_path):
    flag, got = tmp_path / "flag", tmp_path / "got"
    child = f"sh -c 'trap \"touch {got}; exit 0\" USR1; touch {flag}; while :; do sleep 0.02; done'"
    supervisor = supervise(child)

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, supervisor)
            with trio.fail_after(20):
                while not (flag.exists() and supervisor.running):  # it may be quicker than we hear of it
                    await trio.sleep(0.01)
            supervisor.pass_on(signal.SIGUSR1)

    trio.run(main)
    assert got.exists()
    assert not supervisor.running


def test_the_last_command_has_our_stdin_and_the_others_none():
    code = """
        import trio
        from litefs.config import ExecCommand
        from litefs.config.commands import Kind
        from litefs.supervisor import Supervisor, from_line
        async def main():
            task = ExecCommand("", kind=Kind.TASK)
            s = Supervisor([from_line("sh -c 'echo first: $(cat)'", task), from_line("sh -c 'echo last: $(cat)'")])
            await s.prepare()
            await s.run(lambda: None)
        trio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], input="hello", capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("first:\nlast: hello\n", "")
