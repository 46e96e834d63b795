"""A cluster with a token, TLS and client certificates: who gets in, who does not, and that secrets stay secret."""

from __future__ import annotations

import os
import sqlite3
import ssl
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.nodes import COMMAND, Node
from tests.support.waiting import wait_for

from .certificates import Authority, Certificate

pytestmark = pytest.mark.slow

MakeNode = Callable[..., Node]
TOKEN = "s3cret-0123456789abcdef"


def write(node: Node, text: str) -> None:
    with closing(sqlite3.connect(node.path("db"), timeout=10, isolation_level=None)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS t (x)")
        db.execute("INSERT INTO t VALUES (?)", (text,))


def secured(make_node: MakeNode, name: str, http: dict[str, Any], primary: Node | None = None) -> Node:
    """A node with TLS."""
    node = make_node(name, primary=primary)
    node.url = node.url.replace("http:", "https:")
    node.configure({"http": {**http, "addr": node.url.partition("://")[2]}})
    return node


def cli(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LITEFS_")}
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=60, env={**clean, **(env or {})}
    )


def settings(authority: Authority, certificate: Certificate, **more: Any) -> dict[str, Any]:
    return {"tls-cert": certificate.cert, "tls-key": certificate.key, "tls-ca": authority.ca, **more}


def test_a_token_is_needed_and_stays_secret(make_node: MakeNode, tmp_path: Path) -> None:
    primary = make_node("primary").start(env={"LITEFS_AUTH_TOKEN": TOKEN})
    write(primary, "one")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    good = make_node("good", primary=primary, settings={"http": {"auth-token-file": str(file)}}).start()
    good.wait_pos("db", primary.pos("db"))
    bad = make_node("bad", primary=primary, settings={"http": {"auth-token": "s3cret-wrong"}}).spawn()
    wait_for(lambda: "code=401" in bad.log(), "refused replica")

    with httpx.Client(base_url=primary.url, trust_env=False) as http:
        for method, path in [
            ("GET", "/export?name=db"),
            ("GET", "/events"),
            ("GET", "/debug/vars"),
            ("POST", "/import?name=db"),
            ("POST", "/promote"),
            ("POST", "/handoff?nodeID=0000000000000001"),
            ("POST", "/stream"),
            ("POST", "/halt?name=db&id=1"),
            ("DELETE", "/halt?name=db&id=1"),
            ("POST", "/tx?name=db"),
        ]:
            for headers in ({}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": TOKEN}):
                assert http.request(method, path, headers=headers).status_code == 401, path
        for path in ("/info", "/livez", "/readyz", "/metrics"):
            response = http.get(path)
            assert response.status_code == 200
            assert TOKEN not in response.text
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert TOKEN not in http.get("/debug/vars", headers=headers).text

    out = tmp_path / "out.db"
    command = ["export", "-name", "db", "-url", primary.url, str(out)]
    refused = cli(*command)
    assert refused.returncode == 1
    assert "code=401: the node asks for a token: set LITEFS_AUTH_TOKEN" in refused.stderr
    assert cli(*command, env={"LITEFS_AUTH_TOKEN": TOKEN}).returncode == 0
    assert cli(*command, "-token-file", str(file)).returncode == 0
    assert (
        cli("import", "-name", "db2", "-config", str(good.configuration), "-url", primary.url, str(out)).returncode == 0
    )
    shown = cli("config", "show", "-config", str(primary.configuration), env={"LITEFS_AUTH_TOKEN": TOKEN})
    assert shown.returncode == 0
    assert TOKEN not in shown.stdout
    for node in (primary, good, bad):
        assert node.process is not None
        arguments = Path(f"/proc/{node.process.pid}/cmdline").read_text()
        for text in (node.log(), arguments):
            assert "s3cret" not in text


def test_tls_between_nodes_and_commands(
    make_node: MakeNode, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """With client certificates: who has none of ours does not get as far as HTTP."""
    http = settings(authority, authority.sign("node"), **{"tls-client-ca": authority.ca, "auth-token": TOKEN})
    primary = secured(make_node, "primary", http).start()
    replica = secured(make_node, "replica", http, primary).start()
    write(primary, "one")
    replica.wait_pos("db", primary.pos("db"))

    foreign = stranger.sign("node")
    outsider = secured(make_node, "outsider", settings(authority, foreign, **{"auth-token": TOKEN}), primary).spawn()
    wait_for(lambda: "disconnected from primary with error" in outsider.log(), "refused replica")
    assert not (outsider.data / "dbs" / "db").exists()

    verify = ssl.create_default_context(cafile=authority.ca)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{primary.url}/info", verify=verify, trust_env=False)
    out = str(tmp_path / "out.db")
    command = ["export", "-name", "db", out]
    done = cli(*command, "-config", str(primary.configuration))
    assert (done.returncode, done.stderr) == (0, "")
    ours = authority.sign("client")
    env = {
        "LITEFS_AUTH_TOKEN": TOKEN,
        "LITEFS_TLS_CA": authority.ca,
        "LITEFS_TLS_CERT": ours.cert,
        "LITEFS_TLS_KEY": ours.key,
    }
    assert cli(*command, "-url", primary.url, env=env).returncode == 0
    flags = ["-url", primary.url, "-ca", authority.ca, "-cert", foreign.cert, "-key", foreign.key]
    assert cli(*command, *flags, env=env).returncode == 1
    primary.stop()
    replica.stop()


def test_a_primary_that_is_not_who_it_says(
    make_node: MakeNode, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """A certificate of another authority, and one of ours for another host: replicas and commands refuse both."""
    good = settings(authority, authority.sign("node"))
    for number, certificate in enumerate([stranger.sign("node"), authority.sign("elsewhere", "DNS:elsewhere")]):
        primary = secured(make_node, f"primary{number}", settings(authority, certificate)).start()
        write(primary, "one")
        replica = secured(make_node, f"replica{number}", good, primary).spawn()
        wait_for(lambda replica=replica: "certificate verify failed" in replica.log().lower(), "refusal")
        assert not (replica.data / "dbs" / "db").exists()
        done = cli("export", "-name", "db", "-url", primary.url, "-ca", authority.ca, str(tmp_path / "out.db"))
        assert done.returncode == 1
        assert "verify failed" in done.stderr.lower()
        assert "-ca" in done.stderr
        primary.stop()


def test_no_token_goes_out_in_clear(make_node: MakeNode, authority: Authority) -> None:
    """A node with TLS whose lease names a plain address: whoever wrote that there gets nothing."""
    plain = make_node("plain").start()
    http = settings(authority, authority.sign("node"), **{"auth-token": TOKEN})
    del http["tls-cert"], http["tls-key"]
    replica = make_node("replica", primary=plain, settings={"http": http}).spawn()
    wait_for(lambda: "TLS is on here" in replica.log(), "refusal")


def test_the_warning_comes_once(make_node: MakeNode) -> None:
    node = make_node()
    port = node.url.rpartition(":")[2]
    node.configure({"http": {"addr": f":{port}"}})
    node.start()
    assert node.log().count("anyone who reaches") == 1
    node.stop()
    node.start(env={"LITEFS_AUTH_TOKEN": TOKEN})
    assert "anyone who reaches" not in node.log()


def test_a_lost_secret_is_said(make_node: MakeNode, tmp_path: Path) -> None:
    for http, words in [
        ({"auth-token-file": str(tmp_path / "none")}, "cannot read"),
        ({"auth-token": "two words"}, "printable ASCII without spaces"),
        ({"tls-client-ca": "x"}, "has no effect without TLS"),
        ({"tls-ca": str(tmp_path / "none")}, "cannot use http.tls-ca"),
    ]:
        node = make_node(settings={"http": http})
        node.expected = [".*"]
        node.spawn()
        assert node.process is not None
        assert node.process.wait(20) == 2
        assert words in node.log()
        assert "two words" not in node.log()
