"""A replica writes through the halt lock while the primary changes."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.consul import running_consul
from tests.support.nodes import Node
from tests.support.waiting import wait_for

from .application import Failed, Remote
from .conftest import Cluster, assert_same, rows, sql


@pytest.mark.parametrize(
    ("how", "mode"), [("promote", "wal"), ("promote", "delete"), ("stop", "delete"), ("kill", "wal"), ("freeze", "wal")]
)
def test_the_primary_changes(
    make_node: Callable[..., Node], cluster: Cluster, tmp_path: Path, how: str, mode: str
) -> None:
    with running_consul(tmp_path) as consul:
        nodes = []
        for name in ("a", "b", "c"):
            node = make_node(name)
            lease = {"type": "consul", "hostname": name, "advertise-url": node.url, "candidate": name != "c",
                     "reconnect-delay": "100ms", "consul": {"url": consul.url, "key": "litefs/test", "ttl": "2s",
                                                            "lock-delay": "100ms"}}  # fmt: skip
            node.configure({"lease": lease})
            nodes.append(node.start())
            if name == "a":
                sql(node, f"PRAGMA journal_mode={mode}", "CREATE TABLE t(x)", "INSERT INTO t VALUES(0)")
        a, b, c = nodes
        for node in (b, c):
            node.wait_pos("db", a.pos("db"))
            node.expected.append("primary lease lost|cannot reach|lease")
        a.expected.append("lease")
        app = cluster.application(c)
        app.halt()
        assert app.insert(1, 20) == [20, ""]
        app.send("insert", 21, 100_000)
        reached = a.pos("db").txid + 10
        wait_for(lambda: a.pos("db").txid >= reached, "writes")
        change(how, a, b)
        count, _ = app.answer()
        acknowledged = 20 + count
        wait_for(lambda: b.is_primary, "new primary", 40)
        app.close()
        app.release()
        tries = itertools.count(200_000, 10)
        last = wait_for(lambda: _written(app, next(tries)), "writes by the halt lock of the new primary", 40)
        app.release()
        if how == "freeze":
            assert a.process is not None
            os.kill(a.process.pid, signal.SIGCONT)
        elif how in ("stop", "kill"):
            a.start()
        assert_same(b, c, a)
        found = rows(b)
        assert len(set(found)) == len(found)
        missing = set(range(acknowledged + 1)) - set(found)
        # In order nothing is lost. A crash may take what no other node had yet.
        assert not missing or (how in ("kill", "freeze") and min(missing) > 20), missing
        later = set(found) - set(range(acknowledged + 2))
        assert set(range(last, last + 5)) <= later <= set(range(200_000, last + 5))


def _written(app: Remote, first: int) -> int:
    """Five rows from that number on; 0 when the new primary is not reached yet, or lost again on the way."""
    if not _halted(app):
        return 0
    if app.insert(first, 5) == [5, ""]:
        return first
    app.close()
    app.release()
    return 0


def _halted(app: Remote) -> bool:
    try:
        app.halt()
    except Failed as error:
        if "No route to host" not in str(error) and "busy" not in str(error):
            raise
        return False
    return True


def change(how: str, a: Node, b: Node) -> None:
    """Make the first candidate give way to the second."""
    assert a.process is not None
    if how == "promote":
        b.post("/promote")
    elif how == "stop":
        assert a.stop() == 0
    elif how == "kill":
        a.kill()
    else:
        os.kill(a.process.pid, signal.SIGSTOP)
