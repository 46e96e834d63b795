"""Commands of real nodes: a mount, a lease that moves, processes that write."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from litefs.mount.kernel import mounted_type
from tests.support.lease_file import installed
from tests.support.nodes import Node
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")
Make = Callable[..., Node]


def give(node: Node, *commands: str | dict[str, Any], lease: Path | None = None) -> Node:
    """Have a node run commands; with the lease in that file, if there is one."""
    tree = yaml.safe_load(node.configuration.read_text())
    tree["exec"] = [{"cmd": command} if isinstance(command, str) else command for command in commands]
    if lease is not None:
        own = {"path": str(lease), "ttl": "3s", "skew": "100ms"}
        tree["lease"] = {"type": "file", "hostname": node.name, "advertise-url": node.url, "file": own}
        tree["lease"]["reconnect-delay"] = "50ms"
    node.configuration.write_text(yaml.safe_dump(tree))
    return node


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """Environment in which the lease plugin of the examples is installed."""
    return {"PYTHONPATH": str(installed(tmp_path))}


def shell(line: str, **keys: Any) -> dict[str, Any]:
    return {"cmd": "sh -c '" + line.replace("'", "'\\''") + "'", **{key.replace("_", "-"): keys[key] for key in keys}}


FOREVER = {"cmd": "sleep 1000", "name": "server"}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def ready(node: Node) -> tuple[int, str]:
    """Status and text of /readyz."""
    try:
        with urllib.request.urlopen(f"{node.url}/readyz", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def promote(node: Node) -> None:
    """Make a node the primary, and wait until it is."""

    def agreed() -> bool:  # not as long as it is not connected to the primary
        node.post("/promote")
        return True

    wait_for(agreed, f"consent to the promotion of {node.name}")
    wait_for(lambda: node.is_primary, f"promotion of {node.name}")


def ended(node: Node) -> int:
    assert node.process is not None
    return node.process.wait(30)


# ------------------------------------------------------------------------------------------------- one node


def test_the_exit_code_of_an_essential_service_is_the_nodes(make_node: Make, tmp_path: Path) -> None:
    helper = shell(f"trap 'touch {tmp_path}/stopped; exit 3' TERM; touch {tmp_path}/up; while :; do sleep 0.01; done")
    server = shell(f"until test -e {tmp_path}/up; do sleep 0.01; done; exit 7", name="server")
    node = give(make_node(), {**helper, "run": "service", "restart": "always"}, server).spawn()
    assert ended(node) == 7
    assert (tmp_path / "stopped").exists()
    assert mounted_type(node.mount) is None
    assert "subprocess exited with error code 7, litefs shutting down" in node.log()


def test_commands_can_write_until_they_have_ended(make_node: Make, tmp_path: Path) -> None:
    node = make_node()
    create = f"{sys.executable} {__file__} {node.path('app.db')}"
    work = f"{sys.executable} {WORKER} {node.path('app.db')} n {tmp_path}"
    give(node, create, {"cmd": work, "if-primary": True}, FOREVER).start()
    wait_for(lambda: lines(tmp_path / "diary") == ["n begin"], "worker")
    assert node.stop() == 0
    assert lines(tmp_path / "diary") == ["n begin", "n end"]
    with closing(sqlite3.connect(node.files("app.db") / "database")) as db:
        assert db.execute("select text from work order by id desc limit 1").fetchone() == ("last words",)


def test_a_directory_on_the_mount(make_node: Make, tmp_path: Path) -> None:
    """The node must not go there itself: nobody would answer it."""
    node = make_node()
    give(node, shell(f"pwd > {tmp_path}/out; exit 5", cwd=str(node.mount))).spawn()
    assert ended(node) == 5
    assert lines(tmp_path / "out") == [str(node.mount)]


def test_a_crash_loop_does_not_disturb_the_others(make_node: Make) -> None:
    crash = shell("echo oops >&2; exit 3", run="service", restart="on-failure", name="crash")
    node = give(make_node(), FOREVER, crash).start()
    wait_for(lambda: "starting it again in 2s (restart 2)" in node.log(), "second pause")
    assert "crash  | oops" in node.log()
    assert ready(node)[0] == 200
    assert node.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_first_command_runs(make_node: Make, tmp_path: Path, number: int) -> None:
    node = give(make_node(), shell(f"touch {tmp_path}/up; exec sleep 1000"), FOREVER).spawn()
    wait_for((tmp_path / "up").exists, "first command")
    assert ready(node) == (503, "running a command that comes first: sh\n")
    assert node.process is not None
    os.kill(node.process.pid, number)
    assert ended(node) == 0
    assert mounted_type(node.mount) is None


# ------------------------------------------------------------------------------------------------ two nodes


def test_replicas_wait_for_the_migration(make_node: Make, tmp_path: Path) -> None:
    first = make_node("first")
    second = make_node("second", primary=first)
    for node in (first, second):
        wait = f"until test -e {tmp_path}/go; do sleep 0.01; done"
        create = f"{sys.executable} {__file__} {node.path('app.db')}"
        migrate = shell(f"echo {node.name} >> {tmp_path}/migrated; {wait}; exec {create}", once_on_primary=True)
        look = f"{sys.executable} {__file__} {node.path('app.db')} {tmp_path}/{node.name}-saw"
        give(node, migrate, shell(f"{look}; exec sleep 1000"))
    first.spawn()
    wait_for(lambda: lines(tmp_path / "migrated") == ["first"], "migration")
    second.spawn()
    wait_for(
        lambda: "primary first is not ready yet: running a command that comes first: sh" in second.log(),
        "the replica to have looked",
    )
    assert ready(second) == (503, "waiting for the primary to run a command that comes first: sh\n")
    assert not (tmp_path / "second-saw").exists()
    (tmp_path / "go").touch()
    second.wait_ready()
    wait_for(lambda: lines(tmp_path / "second-saw") == ["1000"], "the replica's look at what was migrated")
    assert lines(tmp_path / "migrated") == ["first"]
    assert second.stop() == first.stop() == 0


def test_a_worker_moves_with_the_role(make_node: Make, plugin: dict[str, str], tmp_path: Path) -> None:
    nodes = [make_node("a"), make_node("b")]
    for node in nodes:
        create = f"{sys.executable} {__file__} {node.path('app.db')}"
        work = f"{sys.executable} {WORKER} {node.path('app.db')} {node.name} {tmp_path}"
        commands = [{"cmd": create, "once-on-primary": True}, {"cmd": work, "if-primary": True}, FOREVER]
        give(node, *commands, lease=tmp_path / "lease").start(env=plugin)
    diary = tmp_path / "diary"
    expected = ["a begin"]
    wait_for(lambda: lines(diary) == expected, "first worker")
    for turn in range(5):
        old, new = nodes[turn % 2], nodes[(turn + 1) % 2]
        promote(new)
        expected.extend([f"{old.name} end", f"{new.name} begin"])  # asked before the role went, and still able to write
        wait_for(lambda: len(lines(diary)) >= len(expected), f"worker on {new.name}")
        assert lines(diary) == expected
    nodes[1].kill()  # the primary; its worker is nobody's now, and cannot write any more
    wait_for(lambda: lines(diary)[-1] == "a begin", "worker after the crash", 40)
    failed, begun = lines(diary)[len(expected) :]
    assert (failed.partition(":")[0], begun) == ("b failed", "a begin")
    assert nodes[0].stop() == 0
    with closing(sqlite3.connect(nodes[0].files("app.db") / "database")) as db:
        assert db.execute("select count(*) from work where text = 'last words'").fetchone() == (6,)


if __name__ == "__main__":  # makes the tables, or says how many rows there are
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    if len(sys.argv) > 2:
        (count,) = connection.execute("select count(*) from big").fetchone()
        Path(sys.argv[2]).write_text(f"{count}\n")
    else:
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table if not exists work (id integer primary key, node text, text text)")
        connection.execute("create table if not exists big (x)")
        for _ in range(10):
            connection.execute("begin")
            connection.executemany("insert into big values (randomblob(2000))", [()] * 100)
            connection.execute("commit")
