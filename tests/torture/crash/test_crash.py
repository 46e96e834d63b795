"""Power failure, played through: see `disk` for what a disk may hold afterwards, `verdict` for what must be true.

One node and an application are recorded for some seconds; then power fails at random moments of that, again and again.
`--crash-states 20000` for the long form. Every failure names its `Fate`; with `--crash-recording DIRECTORY` the
recording is kept there, and used again if there is one, so that the same fate comes true again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from tests.support.nodes import Node
from tests.support.programs import find_program

from . import recording
from .disk import LOOSE, ORDERED, Disk, Fate
from .recording import Reader, Recording
from .verdict import Judge, Marks

MakeNode = Callable[..., Node]
pytestmark = pytest.mark.slow
APPLICATION = Path(__file__).with_name("application.py")
LIMIT = 120.0  # seconds for the recording
SHOWN = 10  # failures


@pytest.fixture
def states(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--crash-states"))


def record(make_node: MakeNode, folder: Path, rounds: int, *, replica: bool = False) -> Recording:
    """Have a node and its application run once, and read what they did to the data directory.

    Args:
        replica: the node is one, and its application writes at the primary.
    """
    trace, marks, place = folder / "trace", folder / "marks", folder / "place"
    if not place.exists():
        strace = find_program("strace", "strace", "STRACE_BIN", "scripts/test")
        settings = {"data": {"retention": "1s", "retention-monitor-interval": "300ms"}}
        primary = make_node("primary", settings=settings).start() if replica else None
        node = make_node(settings=settings, primary=primary)
        writer = primary or node
        tree = yaml.safe_load(node.configuration.read_text())
        tree["exec"] = f"{sys.executable} {APPLICATION} {writer.mount} {marks} {writer.url} {rounds}"
        node.configuration.write_text(yaml.safe_dump(tree))
        node.spawn(prefix=recording.prefix(strace, trace))
        assert node.process is not None
        try:
            assert node.process.wait(LIMIT) == 0, node.log()[-3000:]
        finally:
            for pid in descendants(node.process.pid):  # they would outlive the one who watches them
                os.kill(pid, signal.SIGKILL)
        place.write_text(f"{node.data}\n{marks}")
    return Reader(*map(Path, place.read_text().split("\n"))).read(trace)


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have; none when it has ended."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(found for child in children for found in descendants(child))]


def fates(points: int, count: int, seed: int) -> Iterator[Fate]:
    """Moments in random order, each before any is tried again; of what was not synced nothing, everything, or a part.

    Every third recovery is killed in its middle and begins again.
    """
    chance = random.Random(seed)
    moments: list[int] = []
    for _ in range(count):
        moments = moments or chance.sample(range(points), points)
        yield Fate(
            chance.choice([ORDERED, LOOSE]),
            moments.pop(),
            chance.choice([0.0, 1.0, 0.5, chance.random()]),
            chance.getrandbits(32),
            chance.choice([0, 0, chance.randrange(1, 40)]),
        )


@pytest.mark.parametrize("role", ["primary", "replica"])
def test_every_crash_leaves_what_was_promised(
    make_node: MakeNode,
    tmp_path: Path,
    states: int,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    role: str,
) -> None:
    kept = request.config.getoption("--crash-recording")
    folder = Path(kept, role) if kept else tmp_path
    folder.mkdir(exist_ok=True, parents=True)
    replica = role == "replica"
    if states < 1000 and replica:
        states //= 4
    found = record(make_node, folder, rounds=8 if states >= 1000 else 1 if replica else 4, replica=replica)
    disk, marks = Disk(found), Marks(found, replica=replica)
    seed = 1 if states < 1000 else int.from_bytes(os.urandom(4))
    failures: Counter[str] = Counter()
    with closing(Judge()) as judge:
        for number, fate in enumerate(fates(disk.points(), states, seed)):
            if number and number % 1000 == 0:
                with capsys.disabled():
                    print(f"\n{number} crashes, {sum(failures.values())} failures", flush=True)
            place = tmp_path / "crashed"
            disk.crash(fate, place)
            try:
                judge.judge(place, marks.at(fate.point), killed=fate.killed)
            except Exception as error:
                text = str(error).splitlines()[0] if isinstance(error, AssertionError) else repr(error)
                failures[f"{fate.rules}: {text}"] += 1
                with capsys.disabled():
                    print(f"\n{fate}: {text}", flush=True)
            shutil.rmtree(place)
    with capsys.disabled():
        count = sum(failures.values())
        print(f"\n{role}: {len(found.changes)} changes, {states} crashes, seed {seed}: {count} failures")
    assert not failures, failures.most_common(SHOWN)
