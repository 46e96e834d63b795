"""A cluster under constant writes: what was acknowledged is there in the end, whatever happened meanwhile.

`--torture-rounds 10` for the long form.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.consul import Consul, running_consul
from tests.support.netns import CannotIsolate, Host, network
from tests.support.nodes import COMMAND, Node
from tests.support.programs import missing
from tests.support.waiting import LIMIT, wait_for

from .fleet import CRASH_LIMIT, TTL, Fleet
from .history import Verdict

MakeNode = Callable[..., Node]
pytestmark = pytest.mark.slow
HANDOVER_LIMIT = 10.0  # seconds, on a busy machine; the figure that is printed is what counts
SLACK = 1.0  # seconds for a writer that was answered in time to write that down
OUTAGE = [  # errors that a node may log when what it needs is taken from it
    "lease",
    "stream",
    "cannot connect",
]


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--torture-rounds") or os.environ.get("LITEFS_TORTURE_ROUNDS", 1))


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    try:
        with network(4) as hosts:
            yield hosts
    except CannotIsolate as error:
        missing(f"cannot make hosts: {error}")


@contextmanager
def running_fleet(
    make_node: MakeNode,
    hosts: list[Host],
    folder: Path,
    *commands: Path,
    ttl: float = TTL,
    options: str = 'session_ttl_min = "1s"',
    kept: bool = False,
) -> Iterator[Fleet]:
    """One node for each command, the program that it runs; `options` and `kept` are Consul's."""
    *places, registry = hosts
    with running_consul(folder, options, registry, kept=kept) as consul:
        nodes = [make_node(f"n{i}", host=places[i], command=command) for i, command in enumerate(commands)]
        for node in nodes:
            node.expected += OUTAGE
            node.configure(settings(node, consul, ttl))
        with closing(Fleet(nodes, folder, consul)) as fleet:
            yield fleet.start()


def settings(node: Node, consul: Consul, ttl: float) -> dict[str, dict[str, Any]]:
    lease = {
        "type": "consul",
        "hostname": node.name,
        "advertise-url": node.url,
        "candidate": True,
        "reconnect-delay": "100ms",
        "consul": {"url": consul.url, "key": "torture/primary", "ttl": f"{ttl:g}s"},
    }
    return {"data": {"retention": "24h"}, "lease": lease}


@pytest.fixture
def fleet(
    make_node: MakeNode, hosts: list[Host], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Fleet]:
    with running_fleet(make_node, hosts, tmp_path, COMMAND, COMMAND, COMMAND) as fleet:
        yield fleet
        show(capsys, fleet)


@pytest.fixture
def mixed_fleet(
    make_node: MakeNode, hosts: list[Host], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Fleet]:
    """Two of ours and a real LiteFS, the last."""
    if "LITEFS_PEER" not in os.environ:
        pytest.skip("LITEFS_PEER does not name a real LiteFS")
    with running_fleet(make_node, hosts, tmp_path, COMMAND, COMMAND, Path(os.environ["LITEFS_PEER"])) as fleet:
        yield fleet
        show(capsys, fleet)


def show(capsys: pytest.CaptureFixture[str], fleet: Fleet) -> None:
    downtimes = " ".join(f"{seconds:.2f}" for seconds in fleet.downtimes)
    with capsys.disabled():
        print(f"\nseconds without writes: {downtimes}; acknowledged: {len(fleet.history().acknowledged)}")
        if fleet.verdict is not None:
            print(
                f"lost from the cluster: {len(fleet.verdict.lost)}, in spite of a refusal: {len(fleet.verdict.unheard)}"
            )


def test_rolling_restart_loses_nothing(fleet: Fleet, rounds: int) -> None:
    for _ in range(rounds):
        for node in fleet.nodes:
            fleet.disturb(lambda node=node: stop(node), HANDOVER_LIMIT)  # type: ignore[misc]
            node.start()
    verdict = fleet.settle()
    assert verdict == Verdict(set(), set(), set(), set())


def stop(node: Node) -> None:
    assert node.stop() == 0


def test_killed_primary(fleet: Fleet, rounds: int) -> None:
    """What had not been replicated may be lost from the cluster, but not from the disk of the one who had it."""
    for _ in range(rounds):
        victim = fleet.primary()
        fleet.disturb(victim.kill, CRASH_LIMIT, fleet.others(victim))
        victim.start()
    check_nothing_gone(fleet)


def test_killed_primary_that_is_started_again(
    make_node: MakeNode, hosts: list[Host], tmp_path: Path, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a service manager does it: it has everything that was acknowledged, and is primary again."""
    # The lease must outlast a start, which takes seconds on a busy machine.
    with running_fleet(make_node, hosts, tmp_path, COMMAND, COMMAND, COMMAND, ttl=20.0) as fleet:
        victim = fleet.primary()
        for _ in range(rounds):
            fleet.disturb(lambda: revive(victim), LIMIT, [victim])
        verdict = fleet.settle()
        show(capsys, fleet)
    assert verdict.lost == verdict.doubled == verdict.disordered == set()


def revive(node: Node) -> None:
    node.kill()
    node.start()


def test_primary_stopped_past_its_lease(fleet: Fleet, rounds: int) -> None:
    for _ in range(rounds):
        victim = fleet.primary()
        assert victim.process is not None
        pid = victim.process.pid
        fleet.disturb(lambda pid=pid: os.kill(pid, signal.SIGSTOP), CRASH_LIMIT, fleet.others(victim))  # type: ignore[misc]
        resumed = time.time()
        os.kill(pid, signal.SIGCONT)
        fleet.wait_progress(CRASH_LIMIT)
        wait_replica(fleet, victim)
        assert fleet.acknowledged_since(resumed, [victim]) is None
    check_nothing_gone(fleet)


def wait_replica(fleet: Fleet, node: Node) -> None:
    """Wait until a node follows another one."""
    wait_for(lambda: (node.mount / ".primary").exists(), f"primary of {node.name}", CRASH_LIMIT)


@pytest.mark.parametrize("cut_from", ["consul", "replicas", "both"])
def test_partition(
    fleet: Fleet, hosts: list[Host], cut_from: str, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(rounds):
        victim = fleet.primary()
        others = fleet.others(victim)
        assert victim.host is not None
        away = [hosts[-1]] if cut_from != "replicas" else []
        if cut_from != "consul":
            away += [other.host for other in others if other.host is not None]
        takes_over = [victim] if cut_from == "replicas" else others
        fleet.disturb(lambda victim=victim, away=away: victim.host.cut(*away), CRASH_LIMIT, takes_over)  # type: ignore[misc]
        moment = time.time()
        fleet.wait_progress(CRASH_LIMIT, takes_over)
        victim.host.heal(*away)
        if cut_from != "replicas":
            wait_replica(fleet, victim)
            assert fleet.acknowledged_since(moment, [victim]) is None, "two primaries at once"
    check_nothing_gone(fleet)


def test_killed_consul(
    make_node: MakeNode, hosts: list[Host], tmp_path: Path, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes back with what it had on disk: at once, past the lease, or together with another primary."""
    options = 'session_ttl_min = "1s"\nperformance { raft_multiplier = 1 }'
    with running_fleet(make_node, hosts, tmp_path, *[COMMAND] * 3, options=options, kept=True) as fleet:
        for number in range(rounds):
            what = [restart_consul, lose_consul, lose_consul_and_primary][number % 3]
            fleet.disturb(partial(what, fleet), CRASH_LIMIT)
        check_nothing_gone(fleet)
        show(capsys, fleet)


def restart_consul(fleet: Fleet) -> None:
    fleet.consul.stop()
    fleet.consul.start()


def lose_consul(fleet: Fleet) -> None:
    """Without it nobody can be sure to be the only primary for longer than a lease lasts."""
    fleet.consul.stop()
    lost = time.time()
    wait_for(lambda: time.time() - max(fleet.history().acknowledged.values()) > TTL, "end of the lease", 3 * TTL)
    assert max(fleet.history().acknowledged.values()) < lost + TTL + SLACK
    fleet.consul.start()


def lose_consul_and_primary(fleet: Fleet) -> None:
    victim = fleet.primary()
    fleet.consul.stop()
    victim.kill()
    fleet.consul.start()
    victim.start()


def check_nothing_gone(fleet: Fleet) -> None:
    verdict = fleet.settle()
    assert not verdict.doubled
    assert not verdict.disordered
    assert not verdict.lost or verdict.lost <= fleet.kept()


def test_mixed_rolling_restart(mixed_fleet: Fleet, rounds: int) -> None:
    """Real LiteFS may lose what it acknowledged right before it stops; we lose nothing, whoever comes next."""
    for _ in range(rounds):
        for node in mixed_fleet.nodes:
            mixed_fleet.disturb(lambda node=node: stop(node), HANDOVER_LIMIT)  # type: ignore[misc]
            node.start()
    verdict = mixed_fleet.settle()
    peer = mixed_fleet.nodes[-1].name
    assert not {key for key in verdict.lost if key[0] != peer}
    assert not verdict.doubled
    assert not verdict.disordered


def test_mixed_killed_primary(mixed_fleet: Fleet, rounds: int) -> None:
    for _ in range(rounds):
        victim = mixed_fleet.primary()
        mixed_fleet.disturb(victim.kill, CRASH_LIMIT, mixed_fleet.others(victim))
        victim.start()
    verdict = mixed_fleet.settle()
    assert not verdict.doubled
    assert not verdict.disordered
