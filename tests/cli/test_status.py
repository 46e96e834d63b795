"""``litefs status``, ``promote`` and ``demote`` against nodes that say what a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from litefs import cli
from litefs.cli import leadership

from .nodes import FakeNode, database

MakeNode = Callable[..., FakeNode]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeNode]:
    monkeypatch.setenv("LITEFS_AUTH_TOKEN", "s3cret")
    nodes: list[FakeNode] = []

    def make(hostname: str, role: str = "replica", **more: Any) -> FakeNode:
        nodes.append(FakeNode(hostname, len(nodes) + 1, role, **more))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


def acquaint(primary: FakeNode, *replicas: FakeNode) -> None:
    """As they know each other: the primary all of them, a replica the primary and what that has told."""
    for node in (primary, *replicas):
        if node.status is not None:
            node.status["members"] = [other.as_member() for other in (primary, *replicas) if other is not node]
            node.status["primary"] = {"hostname": primary.hostname, "advertiseURL": primary.url}


@pytest.fixture
def cluster(make: MakeNode) -> tuple[FakeNode, FakeNode, FakeNode]:
    a = make("a", "primary", databases={"app.db": database(0x1F), "log.db": database(5, pages=3)})
    b = make("b", databases={"app.db": database(0x1F, pages=None), "log.db": database(3)})
    c = make("c", databases={"app.db": database(0x1F, checksum=2)}, candidate=False)
    acquaint(a, b, c)
    return a, b, c


def test_a_healthy_cluster(cluster: tuple[FakeNode, ...], capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = cluster
    for asked in cluster:
        assert cli.main(["status", "-url", asked.url]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[0] == "cluster LFSC0123456789ABCDEF, consul lease"
        assert [line.split() for line in out[2:6]] == [
            ["NODE", "ROLE", "CANDIDATE", "READY", "LAG", "ID", "ADDRESS"],
            ["a", "primary", "yes", "yes", "0", "ms", a.id, a.url],
            ["b", "replica", "yes", "yes", "12", "ms", b.id, b.url],
            ["c", "replica", "no", "yes", "12", "ms", c.id, c.url],
        ]
        assert [line.split() for line in out[7:]] == [
            ["DATABASE", "PAGES", "a", "b", "c"],
            ["app.db", "12", "1f", "1f", "1f,", "differs"],
            ["log.db", "3", "5", "3,", "2", "behind", "-"],
        ]
    assert all(request[2] == "Bearer s3cret" for node in cluster for request in node.requests)


def test_json(cluster: tuple[FakeNode, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json", "-url", cluster[1].url]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is True
    assert found["primary"] == "a"
    assert [(node["hostname"], node["role"], node["reachable"]) for node in found["nodes"]] == [
        ("a", "primary", True),
        ("b", "replica", True),
        ("c", "replica", True),
    ]
    assert found["nodes"][0]["databases"]["app.db"]["txid"] == "000000000000001f"


def test_a_node_that_does_not_answer(cluster: tuple[FakeNode, ...], capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = cluster
    c.close()
    assert cli.main(["status", "-url", b.url]) == 1
    out, err = capsys.readouterr()
    assert "unreachable" in out
    assert err.startswith(f"WARNING: c does not answer: cannot reach {c.url}")
    assert cli.main(["status", "-json", "-url", a.url]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["healthy"], found["nodes"][2]["hostname"], found["nodes"][2]["reachable"]) == (False, "c", False)
    c._server.socket.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"role": "looking"}, "there is no primary"),
        ({"clusterID": "LFSC0000000000000000"}, "the nodes belong to different clusters"),
    ],
)
def test_what_else_is_wrong(
    cluster: tuple[FakeNode, ...], change: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster[0].status is not None
    cluster[0].status.update(change)
    assert cli.main(["status", "-url", cluster[1].url]) == 1
    assert words in capsys.readouterr().err


def test_a_disk_that_has_failed(make: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    """Nodes of an earlier version do not say whether theirs has."""
    a = make("a", "primary", databases={"app.db": database(0x1F, failed=False), "log.db": database(5, failed=True)})
    b = make("b", databases={"app.db": database(0x1E, failed=True), "log.db": database(5)})
    acquaint(a, b)
    assert cli.main(["status", "-url", a.url]) == 1
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()[6:]] == [
        ["DATABASE", "PAGES", "a", "b"],
        ["app.db", "12", "1f", "1e,", "disk", "failed,", "1", "behind"],
        ["log.db", "12", "5,", "disk", "failed", "5"],
    ]
    assert err == (
        'WARNING: the disk of a has failed to store "log.db": no commits until that node is started again\n'
        'WARNING: the disk of b has failed to store "app.db": no commits until that node is started again\n'
    )
    assert cli.main(["status", "-json", "-url", b.url]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["healthy"], len(found["problems"])) == (False, 2)
    assert found["nodes"][0]["databases"]["log.db"]["failed"] is True


def test_two_primaries(cluster: tuple[FakeNode, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster[1].status is not None
    cluster[1].status["role"] = "primary"
    assert cli.main(["status", "-url", cluster[2].url]) == 1
    assert "more than one node says that it is primary: a, b" in capsys.readouterr().err


def test_nodes_of_litefs(make: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    """They have no /status: what /info tells is shown. One that is connected and has no address is still listed."""
    a, b = make("a", "primary"), make("b")
    acquaint(a, b)
    a.status = None
    a.info = {"isPrimary": True, "candidate": True, "path": "/x", "primary": {"hostname": "a"}}
    assert cli.main(["status", "-url", b.url]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[3:5]] == [
        ["a", "primary"],
        ["b", "replica"],
    ]
    assert cli.main(["status", "-url", a.url]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[:2] == ["a", "primary"]

    own, stranger = make("own", "primary"), make("stranger")
    own.status["members"] = [{**stranger.as_member(), "advertiseURL": "", "hostname": "", "candidate": None}]  # type: ignore[index]
    assert cli.main(["status", "-url", own.url]) == 0
    assert capsys.readouterr().out.splitlines()[4].split() == [stranger.id, "replica", "-", "-", "-", stranger.id, "-"]


def test_nodes_whose_id_nobody_knows_are_all_shown(make: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    """As those of LiteFS that were primary once: the lease has told of them, and the lease has no ids."""
    own, one, other = make("own", "primary"), make("one"), make("other")
    own.status["members"] = [{**node.as_member(), "id": "0" * 16} for node in (one, other)]  # type: ignore[index]
    for node in (one, other):
        node.status = None
        node.info = {"isPrimary": False, "candidate": True, "path": "/x", "primary": {"hostname": "own"}}
    assert cli.main(["status", "-url", own.url]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[4:6]]
    assert [(line[0], line[1], line[5]) for line in lines] == [("one", "replica", "-"), ("other", "replica", "-")]


def test_a_static_replica_has_the_address_of_its_primary(make: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make("a", "primary"), make("b")
    b.status |= {"advertiseURL": a.url, "primary": {"hostname": "a", "advertiseURL": a.url}, "members": []}  # type: ignore[operator]
    assert cli.main(["status", "-url", b.url]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:5]] == ["a", "b"]


def test_answers_that_are_none(make: MakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    node = make("a")
    for body in (b"", b"[]", b"{", b"\xff" * 100, b"nul"):
        node.answer = lambda method, path, body=body: (200, body)  # type: ignore[method-assign, misc]
        assert cli.main(["status", "-url", node.url]) == 1
        assert "does not answer with a JSON object" in capsys.readouterr().err
    for status in (
        {"members": 5, "databases": [], "primary": "x", "lagMs": "x"},
        {"members": [None, {}, {"advertiseURL": 7}, {"advertiseURL": "nonsense"}], "databases": {"x": None, "y": {}}},
        {"hostname": "\x1b[2J\udcff", "role": None, "databases": {"\n": database(1)}},
    ):
        node.answer = lambda method, path, status=status: (200, json.dumps(status).encode())  # type: ignore[method-assign, misc]
        assert cli.main(["status", "-url", node.url]) == 1
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "\x1b" not in out + err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "-url", "http://127.0.0.1:1"]) == 1
    assert "cannot reach http://127.0.0.1:1" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- promote and demote


def takes_over(node: FakeNode, other: FakeNode) -> Callable[[Any], tuple[int, bytes]]:
    """Handles /promote: agreed at once, done a look later."""

    def promote(query: Any) -> tuple[int, bytes]:
        looks = iter([False, True, True, True])
        node.answer = lambda method, path: (200, json.dumps({**node.info, "isPrimary": next(looks)}).encode())  # type: ignore[method-assign]
        return 200, b""

    return promote


def test_promote(cluster: tuple[FakeNode, ...], capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = cluster
    assert cli.main(["promote", "-url", a.url]) == 0
    assert capsys.readouterr().out == f"{a.url} is primary already\n"
    b.on["/promote"] = takes_over(b, a)
    assert cli.main(["promote", "-url", a.url, "-target", "b"]) == 0
    assert capsys.readouterr().out.startswith("b is primary after ")
    assert ("POST", "/promote", "Bearer s3cret") in b.requests
    c.on["/promote"] = lambda query: (409, b"not eligible to become primary\n")
    assert cli.main(["promote", "-url", a.url, "-target", c.id.lower()]) == 1
    assert "not eligible to become primary" in capsys.readouterr().err
    assert cli.main(["promote", "-url", c.url, "-target", "nobody"]) == 1
    assert "no node is called nobody: known here: a (" in capsys.readouterr().err


def test_a_promotion_of_which_nothing_comes(
    cluster: tuple[FakeNode, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leadership, "LIMIT", 0.1)
    cluster[1].on["/promote"] = lambda query: (200, b"")
    assert cli.main(["promote", "-url", cluster[1].url]) == 1
    assert "nothing came of it" in capsys.readouterr().err


def test_demote(cluster: tuple[FakeNode, ...], capsys: pytest.CaptureFixture[str]) -> None:
    a, b, _ = cluster
    asked: list[str] = []

    def demote(query: dict[str, list[str]]) -> tuple[int, bytes]:
        asked.append(query.get("target", [""])[0])
        a.info |= {"isPrimary": False, "primary": {"hostname": "b"}}
        return 200, b""

    a.on["/demote"] = demote
    assert cli.main(["demote", "-url", b.url]) == 1
    assert capsys.readouterr().err == "ERROR: b is not primary: the primary is a; name the primary with -url\n"
    for arguments, target in [([], ""), (["-target", "b"], b.id), (["-target", b.id.lower()], b.id)]:
        assert cli.main(["demote", "-url", a.url, *arguments]) == 0
        assert asked.pop() == target
        assert capsys.readouterr().out.startswith("a is no longer primary, b is, after ")
    assert cli.main(["demote", "-url", a.url, "-target", "nobody"]) == 1
    assert "no node that can take over is called nobody" in capsys.readouterr().err
    a.on["/demote"] = lambda query: (500, b"cannot demote: no candidate\n")
    assert cli.main(["demote", "-url", a.url]) == 1
    assert "cannot demote: no candidate" in capsys.readouterr().err
    del a.on["/demote"]
    a.info["isPrimary"] = True
    assert cli.main(["demote", "-url", a.url]) == 1
    assert "a is a node of LiteFS" in capsys.readouterr().err


def test_nobody_takes_over(
    cluster: tuple[FakeNode, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leadership, "LIMIT", 0.1)
    a = cluster[0]

    def demote(query: Any) -> tuple[int, bytes]:
        a.info |= {"isPrimary": False, "primary": {"hostname": ""}}
        return 200, b""

    a.on["/demote"] = demote
    assert cli.main(["demote", "-url", a.url]) == 1
    assert "no other node has taken over" in capsys.readouterr().err
