"""Everything that nodes and commands ask of each other works with a token, TLS and client certificates."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import cluster
from tests.cluster.cluster import Member, make_table, wait_same
from tests.support.lease_file import installed
from tests.support.nodes import COMMAND
from tests.support.waiting import wait_for

from .certificates import Authority

pytestmark = pytest.mark.slow


@pytest.fixture
def members(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Member]]:
    """Two candidates that are not started yet."""
    monkeypatch.setenv("PYTHONPATH", str(installed(tmp_path)))
    token = tmp_path / "token"
    token.write_text("s3cret-0123456789abcdef\n")
    nodes = []
    for name in ("a", "b"):
        certificate = authority.sign(name, "DNS:localhost,IP:127.0.0.1")
        node = Member(tmp_path / name)
        node.url = node.url.replace("http://", "https://")
        lease = {
            "type": "file",
            "hostname": name,
            "advertise-url": node.url,
            "candidate": True,
            "reconnect-delay": "50ms",
            "file": {"path": str(tmp_path / "lease"), **cluster.LEASE},
        }
        http = {
            "addr": node.url.removeprefix("https://"),
            "auth-token-file": str(token),
            "tls-cert": certificate.cert,
            "tls-key": certificate.key,
            "tls-ca": authority.ca,
            "tls-client-ca": authority.ca,
        }
        node.configure({"lease": lease, "http": http})
        nodes.append(node)
    yield nodes
    for node in nodes:
        node.destroy()
    assert not [line for node in nodes for line in node.surprises()]


def cli(node: Member, *arguments: str) -> subprocess.CompletedProcess[str]:
    name, *rest = arguments
    command = [COMMAND, name, "-config", str(node.configuration), *rest]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, env=os.environ)


def test_hand_overs(members: list[Member]) -> None:
    a, b = members
    a.start()
    b.start()
    make_table(a)
    wait_same(a, b)
    wait_for(lambda: len(json.loads(cli(b, "status", "-json").stdout)["nodes"]) == 2, "both nodes in the status")
    shown = cli(a, "status", "-json")
    assert shown.returncode == 0
    assert [node["role"] for node in json.loads(shown.stdout)["nodes"]] == ["primary", "replica"]
    assert "s3cret" not in shown.stdout

    done = cli(a, "promote", "-target", "b")
    assert (done.returncode, done.stderr) == (0, "")
    done = cli(b, "demote", "-target", "a")
    assert (done.returncode, done.stderr) == (0, "")
    done = cli(b, "run", "-promote", "--", "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert b.stop() == 0
    wait_for(lambda: ": primary lease acquired" in a.log().rpartition("existing primary")[2], "a as primary")
    assert a.stop() == 0
    for node in members:
        assert "s3cret" not in node.log()
