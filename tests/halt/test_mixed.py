"""The halt lock between this program and real LiteFS, which `LITEFS_PEER` names."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.nodes import COMMAND, Node
from tests.support.waiting import wait_for

from .application import Failed
from .conftest import Cluster, assert_same, rows, sql

pytestmark = pytest.mark.skipif("LITEFS_PEER" not in os.environ, reason="LITEFS_PEER does not name a real LiteFS")

MODES = pytest.mark.parametrize("mode", ["wal", "delete"])


def start(make_node: Callable[..., Node], mode: str, *, peer_leads: bool) -> tuple[Node, Node]:
    """A primary and a replica, of which one is real LiteFS."""
    peer = os.environ["LITEFS_PEER"]
    commands = (peer, COMMAND) if peer_leads else (COMMAND, peer)
    a = make_node("a", command=commands[0]).start()
    sql(a, f"PRAGMA journal_mode={mode}", "CREATE TABLE t(x)", "INSERT INTO t VALUES(0)")
    b = make_node("b", primary=a, command=commands[1]).start()
    b.wait_pos("db", a.pos("db"))
    return a, b


@MODES
@pytest.mark.parametrize("peer_leads", [True, False], ids=["peer-leads", "peer-follows"])
def test_transactions_of_all_sizes(
    make_node: Callable[..., Node], cluster: Cluster, mode: str, peer_leads: bool
) -> None:
    a, b = start(make_node, mode, peer_leads=peer_leads)
    app = cluster.application(b)
    app.halt()
    for number in range(1, 11):
        app.sql(f"INSERT INTO t VALUES({number})")
        assert a.pos("db") == b.pos("db")
    app.sql("CREATE TABLE big(x)")
    app.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000) "
            "INSERT INTO big SELECT randomblob(1000) FROM n")  # fmt: skip
    app.sql("DELETE FROM big")
    app.sql("UPDATE t SET x = x + 100")
    assert a.pos("db") == b.pos("db")
    app.close()
    app.release()
    wait_for(lambda: sql(a, "INSERT INTO t VALUES(1000)", timeout=1) == [], "a write on the primary", 40)
    assert_same(a, b)
    assert rows(b) == [*range(100, 111), 1000]


@MODES
def test_a_primary_that_does_not_prolong(make_node: Callable[..., Node], cluster: Cluster, mode: str) -> None:
    a, b = start(make_node, mode, peer_leads=True)
    app = cluster.application(b)
    app.halt()
    app.sql("INSERT INTO t VALUES(1)")
    wait_for(lambda: "the halt lock is lost: its time is over" in b.log(), "the end of the halt", 40)
    with pytest.raises(Failed, match="OperationalError"):
        app.sql("INSERT INTO t VALUES(-1)")
    app.close()
    app.release()
    wait_for(lambda: sql(a, "INSERT INTO t VALUES(2)", timeout=1) == [], "a write on the primary", 40)
    assert_same(a, b)
    assert rows(b) == [0, 1, 2]
