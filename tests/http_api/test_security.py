"""The token, and TLS."""

from __future__ import annotations

import logging
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from litefs.errors import ConfigError
from litefs.http.app import build
from litefs.http.security import authorized, warn_if_open
from litefs.http.tls import server_context
from tests.support.programs import find_tool

from .fakes import FakeNode
from .server import Server

TOKEN = "s3cret-tökén"


@pytest.mark.parametrize(
    ("header", "good"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN}", True),
        (TOKEN, False),
        (f"Basic {TOKEN}", False),
        (f"Bearer {TOKEN}x", False),
        ("Bearer ", False),
        ("", False),
    ],
)
def test_authorized(header: str, good: bool) -> None:
    assert authorized(TOKEN, header) is good
    assert authorized("", header)


def test_what_the_token_guards(node: FakeNode, http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    node.services.token = "s3cret"
    guarded = {"/stream", "/import", "/promote", "/handoff"}, {"/export", "/events", "/debug/vars"}
    for method, paths in zip(("POST", "GET"), guarded, strict=True):
        for path in paths:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                response = http.request(method, path, headers=headers, content=b"")
                assert (response.status_code, response.text) == (401, "unauthorized\n")
                assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/info", "/livez", "/readyz", "/metrics"):
        assert http.get(path).status_code == 200
    assert http.get("/export", headers={"Authorization": "Bearer s3cret"}).text == "name required\n"
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(node.services)


def test_less_may_be_open(node: FakeNode, make_server: Callable[..., Server]) -> None:
    node.services.token, node.services.exempt = "s3cret", ("/livez",)
    server = make_server(build(node.services), closing=node.services.closing)
    with server.http1() as http:
        codes = [http.get(path).status_code for path in ("/livez", "/readyz", "/metrics", "/info", "/nothing")]
        assert codes == [200, 401, 401, 401, 404]
        assert http.get("/info", headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_the_warning(caplog: pytest.LogCaptureFixture) -> None:
    warn_if_open("token", False, ":20202")
    warn_if_open("", True, "127.0.0.1:20202")
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        warn_if_open("", False, ":20202")
    assert "http.auth-token" in caplog.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    openssl = find_tool("openssl", "it makes certificates")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run([openssl, *command.split(), *more], check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize("http2", [False, True])
def test_tls(http2: bool, certificate: tuple[str, str], node: FakeNode, make_server: Callable[..., Server]) -> None:
    server = make_server(build(node.services), tls=server_context(*certificate), closing=node.services.closing)
    image = bytes(8 << 20)
    node.add("db", image)
    verify = ssl.create_default_context(cafile=certificate[0])
    with httpx.Client(base_url=server.url, verify=verify, http2=http2, trust_env=False) as http:
        response = http.get("/export?name=db")
        assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert response.content == image
        assert http.post("/import?name=x", content=image).status_code == 500
        with http.stream("GET", "/events") as events:
            assert "init" in next(events.iter_lines())
            server.stop()


def test_tls_takes_nothing_else(
    certificate: tuple[str, str], node: FakeNode, make_server: Callable[..., Server]
) -> None:
    server = make_server(build(node.services), tls=server_context(*certificate))
    with server.connect() as sock:
        sock.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in sock.recv(100)
    with server.connect():  # says nothing
        verify = ssl.create_default_context(cafile=certificate[0])
        assert httpx.get(f"{server.url}/info", verify=verify).status_code == 200
        server.stop()


@pytest.mark.parametrize("content", [None, b"", b"no PEM"])
def test_unusable_certificates(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"http.tls-cert {path}"):
        server_context(str(path), str(path))
