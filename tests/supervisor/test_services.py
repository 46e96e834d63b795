"""Commands that live side by side, under policies that change their mind.  Real processes."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
import trio.testing

from litefs.config.commands import Kind
from litefs.errors import PluginError
from litefs.extensions import ExecPolicy
from litefs.supervisor import ExecError
from litefs.supervisor.signals import Stop

from .stage import Stage, command, lines, living, python, supervisor, until

# Says when it begins and ends, and when another instance is there.
WORKER = """
    import os, signal, sys, time
    diary, lock, linger = sys.argv[1], sys.argv[1] + ".lock", float(sys.argv[2])
    def note(text):
        with open(diary, "a") as file:
            file.write(text + "\\n")
    def end(number, frame):
        note(signal.Signals(number).name)
        time.sleep(linger)
        os.unlink(lock)
        note("end")
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        note("TWICE")
    note("begin")
    while True:
        time.sleep(0.02)  # short: Python looks at signals between two of them, and one may come just before
"""


def worker(tmp_path: Path, linger: float = 0, **options):
    return command(python(WORKER, tmp_path / "diary", linger), **options)


def test_a_worker_follows_the_role(tmp_path):
    diary = tmp_path / "diary"

    async def main():
        stage = Stage()
        async with living(supervisor(stage, [worker(tmp_path, if_primary=True, signal=signal.SIGINT)])):
            assert lines(diary) == []
            for _ in range(3):
                stage.become(primary=True)
                await until(lambda: lines(diary)[-1:] == ["begin"])
                stage.become(primary=False)
                await until(lambda: lines(diary)[-1] == "end")
        assert lines(diary) == ["begin", "SIGINT", "end"] * 3

    trio.run(main)


def test_if_replica_is_the_opposite(tmp_path):
    diary = tmp_path / "diary"

    async def main():
        stage = Stage()
        async with living(supervisor(stage, [worker(tmp_path, if_replica=True)])):
            await until(lambda: lines(diary) == ["begin"])
            stage.become(primary=True)
            await until(lambda: lines(diary) == ["begin", "SIGTERM", "end"])

    trio.run(main)


def test_a_flapping_role_never_makes_two_of_one_worker(tmp_path):
    diary = tmp_path / "diary"

    async def main():
        stage = Stage(primary=True)
        async with living(supervisor(stage, [worker(tmp_path, linger=0.1, if_primary=True)])):
            for turn in range(12):
                if turn % 3 == 0:
                    await until(lambda: lines(diary)[-1:] == ["begin"])
                stage.become(primary=False)
                await trio.lowlevel.checkpoint()
                stage.become(primary=True)
                await trio.sleep(0.02 * (turn % 3))
            await until(lambda: lines(diary)[-1:] == ["begin"])
        assert "TWICE" not in lines(diary)
        begun = lines(diary).count("begin")
        assert begun >= 2
        assert lines(diary).count("end") >= begun

    trio.run(main)


def test_a_worker_that_ignores_the_signal_is_killed(tmp_path, caplog):
    flag = tmp_path / "flag"

    async def main():
        stage = Stage(primary=True)
        stubborn = command(f"trap '' TERM; touch {flag}; while :; do sleep 60; done", if_primary=True, grace=5.0)
        async with living(supervised := supervisor(stage, [stubborn])):
            while not flag.exists():
                await trio.lowlevel.checkpoint()  # no deadline: the clock below would jump to it
            began = trio.current_time()
            stage.become(primary=False)
            await supervised.conform()
            assert trio.current_time() - began == pytest.approx(5.0)
            assert not supervised.running

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert "does not end, killing it" in caplog.text


def test_what_a_worker_left_behind_is_killed_with_it(tmp_path):
    """Otherwise the next one would not be alone."""
    pid = tmp_path / "pid"

    async def main():
        stage = Stage(primary=True)
        careless = command(f"sleep 1000 & echo $! > {pid}.tmp; mv {pid}.tmp {pid}; sleep 1000", if_primary=True)
        async with living(supervised := supervisor(stage, [careless])):
            await until(pid.exists)
            stage.become(primary=False)
            await supervised.conform()
            await until(lambda: gone(int(pid.read_text())))

    trio.run(main)


def gone(pid: int) -> bool:
    """Whether it does not run any more; init may be slow to take notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# ------------------------------------------------------------------------------------------------------ restarting


class Pauses(logging.Handler):
    """Collects how long the pauses before restarts are, and says when there were enough."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.enough = trio.Event()
        self._wanted = wanted

    def emit(self, record: logging.LogRecord) -> None:
        if "starting it again" in record.msg:
            self.seconds.append(record.args[-2])
            if len(self.seconds) == self._wanted:
                self.enough.set()


@pytest.fixture
def pauses():
    handler = Pauses(9)
    logger = logging.getLogger("litefs.supervisor.runner")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("line", "restart"), [("exit 3", "on-failure"), ("exit 0", "always"), ("kill -9 $$", "on-failure")]
)
def test_a_crash_loop_slows_down(pauses, line, restart):
    async def main():
        async with living(supervisor(Stage(), [command(line, restart=restart)])):
            started = trio.current_time()
            await pauses.enough.wait()
            assert trio.current_time() - started == pytest.approx(sum(pauses.seconds[:-1]))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert pauses.seconds == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_missing_program_is_tried_again(pauses, caplog):
    async def main():
        async with living(supervisor(Stage(), [command(["/no/such/program"], restart="on-failure")])):
            await pauses.enough.wait()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert "cannot execute /no/such/program: No such file or directory" in caplog.text


def test_a_missing_essential_program_fails_the_start():
    with pytest.raises(ExecError, match="cannot execute /no/such/program"):
        trio.run(ended, supervisor(Stage(), [command("sleep 60"), command(["/no/such/program"], essential=True)]))


async def ended(supervised):
    await supervised.prepare()
    return await supervised.run(lambda: None)


def test_on_failure_leaves_a_success_alone_until_the_role_comes_again(tmp_path):
    diary = tmp_path / "diary"

    async def main():
        stage = Stage(primary=True)
        job = command(f"echo ran >> {diary}", if_primary=True, restart="on-failure")
        async with living(supervised := supervisor(stage, [job])):
            await until(lambda: lines(diary) == ["ran"] and not supervised.running)
            await trio.testing.wait_all_tasks_blocked()
            stage.become(primary=False)
            await trio.testing.wait_all_tasks_blocked()
            stage.become(primary=True)
            await until(lambda: lines(diary) == ["ran", "ran"])

    trio.run(main)


def test_the_role_ends_a_pause_and_begins_anew(tmp_path, pauses):
    async def main():
        stage = Stage(primary=True)
        async with living(supervisor(stage, [command("exit 1", if_primary=True, restart="always")])):
            await pauses.enough.wait()
            stage.become(primary=False)
            await trio.testing.wait_all_tasks_blocked()
            stage.become(primary=True)
            while len(pauses.seconds) == 9:
                await trio.lowlevel.checkpoint()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert pauses.seconds[9] == 1


# ------------------------------------------------------------------------------------------------- the node's end


@pytest.mark.parametrize(("line", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 255)])
def test_the_end_of_an_essential_service_ends_all(tmp_path, line, code):
    diary = tmp_path / "diary"
    go = tmp_path / "go"
    leader = command(f"until test -e {go}; do sleep 0.01; done; {line}", essential=True)
    supervised = supervisor(Stage(primary=True), [leader, worker(tmp_path, if_primary=True)])

    async def main():
        async with trio.open_nursery() as nursery:

            async def release() -> None:
                await until(lambda: lines(diary) == ["begin"])
                go.touch()

            nursery.start_soon(release)
            return await ended(supervised)

    assert trio.run(main) == code
    assert lines(diary) == ["begin", "SIGTERM", "end"]


def test_others_may_come_and_go(tmp_path):
    go = tmp_path / "go"
    server = command(f"until test -e {go}; do sleep 0.01; done; exit 5", kind=Kind.MAIN, essential=True)
    helper = command(f"touch {go}; exit 3")
    assert trio.run(ended, supervisor(Stage(), [helper, server])) == 5


def test_a_stop_reaches_everyone_and_codes_of_essential_ones_count(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    said: list[str] = []
    commands = [
        worker(tmp_path / "a", if_primary=True),
        worker(tmp_path / "b", signal=signal.SIGINT),
        command(f"trap 'exit 9' TERM; touch {tmp_path}/c; while :; do sleep 0.01; done", Kind.MAIN, essential=True),
        command(f"trap 'exit 8' TERM; touch {tmp_path}/d; while :; do sleep 0.01; done"),
    ]
    supervised = supervisor(Stage(primary=True), commands, say=said.append)
    supervised.stop = Stop(signal.SIGTERM, shared=True)  # which those with a group of their own have not got

    async def main():
        async with living(supervised):
            await until(lambda: lines(tmp_path / "a/diary") == lines(tmp_path / "b/diary") == ["begin"])
            await until(lambda: (tmp_path / "c").exists() and (tmp_path / "d").exists())

    trio.run(main)
    assert lines(tmp_path / "a/diary")[1:] == ["SIGTERM", "end"]
    assert lines(tmp_path / "b/diary")[1:] == ["SIGINT", "end"]
    assert supervised.exit_code == 9
    assert said == ["sending signal to exec process", "waiting for exec process to close"]


@pytest.mark.parametrize("steps", range(0, 60, 3))
def test_a_stop_at_any_moment_leaves_nothing(tmp_path, steps):
    for name in "ab":
        (tmp_path / name).mkdir()
    pair = [worker(tmp_path / "a", 0.01, if_primary=True), worker(tmp_path / "b", 0.01, if_replica=True)]
    commands = [command("true", Kind.TASK), *pair]
    supervised = supervisor(stage := Stage(), commands)

    async def main():
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ended, supervised)
                for step in range(steps):
                    if step % 20 == 10:
                        stage.become(primary=not stage.primary)
                    await trio.sleep(0.002)
                scope.cancel()

    trio.run(main)
    assert not supervised.running
    assert not [pid for pid in children() if not gone(pid)]
    assert "TWICE" not in lines(tmp_path / "a/diary") + lines(tmp_path / "b/diary")


@pytest.mark.parametrize("steps", range(8))
def test_a_stop_while_the_role_goes(tmp_path, steps):
    """Both end the command, whichever is heard of first."""
    diary = tmp_path / "diary"
    supervised = supervisor(stage := Stage(primary=True), [worker(tmp_path, if_primary=True)])

    async def main():
        async with living(supervised):
            await until(lambda: lines(diary) == ["begin"])
            stage.become(primary=False)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert lines(diary) == ["begin", "SIGTERM", "end"]
    assert not [pid for pid in children() if not gone(pid)]


def children() -> list[int]:
    """Processes that any thread of this one has started."""
    return [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


def test_asked_again_all_are_killed(tmp_path):
    commands = [command(f"trap '' TERM; touch {tmp_path}/{n}; while :; do sleep 60; done") for n in range(2)]
    supervised = supervisor(Stage(), commands)

    async def main():
        async with trio.open_nursery() as nursery, living(supervised):
            await until(lambda: len(supervised.running) == 2 and all((tmp_path / str(n)).exists() for n in range(2)))

            async def insist() -> None:
                while supervised.running:
                    supervised.hurry()
                    await trio.sleep(0.01)

            nursery.start_soon(insist)

    trio.run(main)


# ---------------------------------------------------------------------------------------------------- run once


def test_once_on_primary_runs_there_and_nowhere_else(tmp_path):
    diary = tmp_path / "diary"
    migrate = command(f"echo migrated >> {diary}", Kind.TASK, once_on_primary=True)
    serve = command(f"echo served >> {diary}", Kind.MAIN, essential=True)

    async def on_replica():
        stage = Stage()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ended, supervisor(stage, [migrate, serve]))
            await trio.testing.wait_all_tasks_blocked()
            assert lines(diary) == []
            stage.done.set()

    trio.run(on_replica)
    assert lines(diary) == ["served"]
    trio.run(ended, supervisor(Stage(primary=True), [migrate, serve]))
    assert lines(diary) == ["served", "migrated", "served"]


def test_a_replica_that_becomes_primary_while_it_waits_runs_it_itself(tmp_path):
    diary = tmp_path / "diary"
    migrate = command(f"echo migrated >> {diary}", Kind.TASK, once_on_primary=True)

    async def main():
        stage = Stage()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ended, supervisor(stage, [migrate]))
            await trio.testing.wait_all_tasks_blocked()
            stage.become(primary=False)  # another primary
            await trio.testing.wait_all_tasks_blocked()
            stage.become(primary=True)

    trio.run(main)
    assert lines(diary) == ["migrated"]


@pytest.mark.parametrize("dies", [True, False])
def test_a_migration_that_loses_its_primary_is_left_to_the_next(tmp_path, dies):
    diary = tmp_path / "diary"
    line = f"echo begun >> {diary}; while test -e {tmp_path}/on; do sleep 0.01; done; exit {1 if dies else 0}"
    migrate = command(line, Kind.TASK, once_on_primary=True)
    (tmp_path / "on").touch()

    async def main():
        stage = Stage(primary=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ended, supervisor(stage, [migrate]))
            await until(lambda: lines(diary) == ["begun"])
            if dies:  # its write fails; that this node is not primary any more is known a little later
                (tmp_path / "on").unlink()
                await trio.sleep(0.2)
            stage.become(primary=False)
            await trio.testing.wait_all_tasks_blocked()
            stage.done.set()

    trio.run(main)
    assert lines(diary) == ["begun"]


def test_a_migration_that_fails_fails_the_start():
    with pytest.raises(ExecError, match="exit status 4"):
        trio.run(ended, supervisor(Stage(primary=True), [command("exit 4", Kind.TASK, once_on_primary=True)]))


# -------------------------------------------------------------------------------------------- policies of plugins


def test_a_policy_of_a_plugin_changes_with_the_role(tmp_path):
    """It can do what the built-in ones do."""
    diary = tmp_path / "diary"
    policy = ExecPolicy(
        "with-primary", {"type": "string"}, lambda name, context: context.primary == name, "another primary", True
    )

    async def main():
        stage = Stage()
        service = worker(tmp_path, with_primary="p")
        async with living(supervisor(stage, [service], policy)):
            await until(lambda: lines(diary) == ["begin"])
            stage.become(primary=True)
            await until(lambda: lines(diary) == ["begin", "SIGTERM", "end"])
            stage.become(primary=False)
            await until(lambda: lines(diary)[3:] == ["begin"])

    trio.run(main)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_policy_that_fails_is_blamed_on_its_plugin(kind):
    policy = ExecPolicy("broken", {}, lambda value, context: value[context.primary], "never")
    made = supervisor(Stage(), [command("sleep 60", kind, broken={})], policy)
    with pytest.raises(PluginError, match=r'plugin "extra".*failed in its exec policy "broken": KeyError'):
        trio.run(ended, made)


def test_a_policy_that_fails_later_ends_the_commands(tmp_path):
    diary = tmp_path / "diary"
    policy = ExecPolicy("broken", {}, lambda value, context: bool(1 / (not context.is_primary)), "never")

    async def main():
        stage = Stage()
        async with living(supervisor(stage, [worker(tmp_path, broken=1)], policy)):
            await until(lambda: lines(diary) == ["begin"])
            stage.become(primary=True)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        trio.run(main)
    assert raised.group_contains(PluginError, match="ZeroDivisionError")
    assert lines(diary) == ["begin", "SIGTERM", "end"]


# ------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("kind", list(Kind))
def test_environment_and_directory(tmp_path, kind):
    (tmp_path / "there").mkdir()
    probe = command("echo $A,$HOSTNAME > out", kind, True, env={"A": "b", "HOSTNAME": "x"}, cwd=str(tmp_path / "there"))
    trio.run(ended, supervisor(Stage(), [probe]))
    assert (tmp_path / "there" / "out").read_text() == "b,x\n"


def test_a_directory_or_a_program_that_is_not_there(tmp_path, capfd):
    for argv, cwd in ((["true"], tmp_path / "no"), (["./no"], tmp_path)):
        assert trio.run(ended, supervisor(Stage(), [command(argv, Kind.MAIN, True, cwd=str(cwd))])) == 127
        assert f"cannot execute {argv[0]} in {cwd}: No such file or directory" in capfd.readouterr().err


SIDE_BY_SIDE = """
    import sys, trio
    sys.path.insert(0, {path!r})
    from litefs.config.commands import Kind
    from tests.supervisor.stage import Stage, command, supervisor
    async def main():
        made = supervisor(Stage(), [command(line, name=name, essential=False) for name, line in {lines!r}]
            + [command("sleep 0.3", Kind.MAIN, True)])
        await made.run(lambda: None)
    trio.run(main)
"""


def side_by_side(*named: tuple[str, str]) -> subprocess.CompletedProcess[bytes]:
    code = SIDE_BY_SIDE.format(path=str(Path(__file__).parents[2]), lines=named)
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=60, check=True)


def test_output_of_several_is_marked():
    done = side_by_side(
        ("web", "printf 'one\\ntwo'; echo oops >&2"), ("job", "printf '\\377\\n'"), ("job", "cat; echo end")
    )
    assert sorted(done.stdout.splitlines()) == [b"job.1 | \xff", b"job.2 | end", b"web   | one", b"web   | two"]
    assert done.stderr == b"web   | oops\n"


def test_long_and_many_lines_stay_whole():
    script = "import sys; [sys.stdout.write(c * 50_000 + chr(10)) for _ in range(20)]"
    named = [(c, f'{sys.executable} -c "c = {c!r}; {script}"') for c in "abc"]
    output = side_by_side(*named).stdout
    found = {line for line in output.splitlines() if line}
    assert found == {f"{c}  | ".encode() + c.encode() * 50_000 for c in "abc"}
    assert output.count(b"\n") == 60
