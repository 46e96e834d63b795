"""GET /info, /livez, /readyz, and what all routes have in common."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .fakes import CLUSTER_ID, FakeNode
from .server import Server


def test_info_of_a_primary(node: FakeNode, http: Any) -> None:
    response = http.get("/info")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["litefs-id"] == "00000000DEADBEEF"
    assert response.headers["litefs-cluster-id"] == CLUSTER_ID
    assert response.json() == {
        "clusterID": CLUSTER_ID,
        "isPrimary": True,
        "candidate": True,
        "path": str(node.store.data_dir),
        "primary": {"hostname": "node-a"},
    }
    assert response.text.startswith('{\n  "clusterID": "LFSC')
    assert response.text.endswith("}\n")


def test_info_without_cluster_and_primary(node: FakeNode, http: Any) -> None:
    node.become_replica()
    node.store.cluster_id, node.role.primary_hostname = "", None
    response = http.get("/info")
    assert "litefs-cluster-id" not in response.headers
    assert "clusterID" not in response.json()
    assert response.json()["primary"] == {"hostname": ""}


def test_live_and_ready(node: FakeNode, http: Any) -> None:
    node.reason = "waiting to connect to cluster"
    assert http.get("/livez").status_code == 200
    response = http.get("/readyz")
    assert (response.status_code, response.text) == (503, "waiting to connect to cluster\n")
    node.reason = ""
    assert http.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/", "/info/", "/db", "/debug/", "/infos", "/INFO"])
def test_unknown_paths(path: str, http: Any) -> None:
    response = http.get(path)
    assert (response.status_code, response.text) == (404, "404 page not found\n")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/info"), ("GET", "/promote"), ("GET", "/import"), ("POST", "/export"), ("HEAD", "/info")],
)
def test_wrong_methods(method: str, path: str, http: Any) -> None:
    response = http.request(method, path)
    assert response.status_code == 405
    assert response.text == ("" if method == "HEAD" else "method not allowed\n")


def test_failures_are_logged_as_litefs_does(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "litefs.http"), server.http1() as http:
        http.post("/import")
    assert "http: POST /import: error: name required" in caplog.messages


def test_a_bug_is_a_500_without_details_and_a_traceback_in_the_log(
    node: FakeNode, server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.store, "open_databases", lambda: 1 / 0)
    with server.http1() as http:
        response = http.get("/debug/vars")
        assert (response.status_code, response.text) == (500, "internal error, see the log of this node\n")
        assert http.get("/info").status_code == 200
    assert [record for record in caplog.records if record.exc_info]


def test_status(node: FakeNode, server: Server) -> None:
    """The whole of it, names of databases as the bytes they are, and without databases."""
    with server.http1() as http:
        answer = http.get("/status")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert json.loads(answer.content)["databases"] == {"my\udcff.db": {}}
        assert http.get("/status?databases=none").json() == {"role": "primary"}
        assert node.leadership.looks == 0
        http.get("/status?databases=none&lease=free")
        assert node.leadership.looks == 1
        assert http.post("/status").status_code == 405


def test_demote(node: FakeNode, server: Server) -> None:
    with server.http1() as http:
        assert http.post("/demote").status_code == 200
        assert http.post("/demote?target=00000000000000AB").status_code == 200
        assert node.leadership.demotions == [None, 0xAB]
        answer = http.post("/demote?target=b")
        assert (answer.status_code, answer.text) == (400, "invalid node id\n")
        node.leadership.error = "node is not currently primary"
        answer = http.post("/demote")
        assert (answer.status_code, answer.text) == (500, "cannot demote: node is not currently primary\n")
