"""The status page: who gets it, who may press its buttons. In a browser: test_browser.py."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from litefs.http.security import from_own_page, is_own_name
from litefs.http.sessions import LIFETIME, MOST, Sessions

from .fakes import FakeNode
from .server import Server

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
TOKEN = "s3cret"
UNAUTHORIZED = (401, "unauthorized\n")


@pytest.fixture
def guarded(node: FakeNode, server: Server) -> Iterator[httpx.Client]:
    """A client, and a node with a token."""
    node.services.token = TOKEN
    with server.http1(headers=HTML) as client:
        yield client


def login(client: httpx.Client) -> httpx.Response:
    own = str(client.base_url).rstrip("/")
    return client.post("/login", data={"token": TOKEN}, headers={"Origin": own})


def test_only_browsers_get_it(server: Server) -> None:
    with server.http1() as client:
        assert client.get("/").text == "404 page not found\n"
        assert client.get("/", headers=HTML).text.startswith("<!doctype html>")
        for method in ("POST", "PUT", "DELETE", "HEAD"):
            assert client.request(method, "/", headers=HTML).status_code == 404


def test_nothing_comes_from_elsewhere(server: Server) -> None:
    with server.http1(headers=HTML) as client:
        for path in ("/", "/page.js", "/page.css"):
            answer = client.get(path)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cache-control"] == "no-store"
            links = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
            assert not [link for link in links if not link.startswith(("/", "data:,"))]
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert not re.search(r"innerHTML|<style|<script>| on\w+=|style=", answer.text)


def test_without_the_token_there_is_a_form_and_nothing_else(guarded: httpx.Client) -> None:
    answer = guarded.get("/")
    assert answer.status_code == 401
    assert 'name="token"' in answer.text
    assert "databases" not in answer.text
    assert (guarded.get("/status").status_code, guarded.get("/status").text) == UNAUTHORIZED
    assert guarded.get("/page.js").status_code == 200


def test_a_wrong_token(guarded: httpx.Client) -> None:
    for given in ("wrong", "", TOKEN + "x"):
        answer = guarded.post("/login", data={"token": given})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert 'id="wrong" hidden' not in answer.text
    assert 'id="wrong" hidden' in guarded.get("/").text


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"token", b"token=%ff", b"=" * 4096, b"token=a&token=s3cret"])
def test_a_login_that_is_none(guarded: httpx.Client, body: bytes) -> None:
    assert guarded.post("/login", content=body).status_code == 401


def test_the_cookie_stands_for_the_token(guarded: httpx.Client) -> None:
    answer = login(guarded)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly; SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/").status_code == 200
    assert guarded.get("/status").status_code == 200
    with guarded.stream("GET", "/events") as events:
        assert events.status_code == 200


def test_the_cookie_is_worth_less_than_the_token(guarded: httpx.Client) -> None:
    login(guarded)
    for method, path in (
        ("GET", "/export?name=x"),
        ("POST", "/import?name=x"),
        ("GET", "/debug/vars"),
        ("POST", "/handoff?nodeID=00000000000000FF"),
        ("POST", "/halt?name=x&id=1"),
        ("POST", "/stream"),
    ):
        answer = guarded.request(method, path)
        assert (answer.status_code, answer.text) == UNAUTHORIZED, path


def test_only_the_own_page_presses_buttons(guarded: httpx.Client, node: FakeNode) -> None:
    login(guarded)
    own = str(guarded.base_url).rstrip("/")
    for headers in (
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": own.replace("127.0.0.1", "localhost")},
        {"Origin": own, "Sec-Fetch-Site": "cross-site"},
        {"Origin": own, "Sec-Fetch-Site": "same-site"},
    ):
        answer = guarded.post("/demote", headers=headers)
        assert answer.status_code == 403, headers
    assert node.leadership.demotions == []
    assert guarded.post("/demote", headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert node.leadership.demotions == [None]


def test_nobody_else_logs_in_or_out(guarded: httpx.Client) -> None:
    evil = {"Origin": "http://evil.example"}
    assert guarded.post("/login", data={"token": TOKEN}, headers=evil).status_code == 403
    login(guarded)
    assert guarded.post("/logout", headers=evil).status_code == 403
    assert guarded.get("/status").status_code == 200


def test_logging_out_ends_the_session_itself(guarded: httpx.Client) -> None:
    login(guarded)
    cookies = dict(guarded.cookies)
    answer = guarded.post("/logout")
    assert answer.status_code == 303
    assert "Max-Age=0" in answer.headers["set-cookie"]
    guarded.cookies.update(cookies)
    assert guarded.get("/status").status_code == 401


def test_without_a_token_a_page_must_know_the_node_by_its_name(server: Server, node: FakeNode) -> None:
    node.services.names = {"Node-a"}
    with server.http1() as client:
        port = client.base_url.port
        for host, status in (("rebound.example", 403), ("localhost", 200), ("node-a", 200), ("127.0.0.1", 200)):
            headers = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"}
            assert client.post("/demote", headers=headers).status_code == status, host
        assert client.post("/import?name=x", headers=headers).status_code == 403


def test_a_login_that_is_too_long(guarded: httpx.Client) -> None:
    assert guarded.post("/login", data={"token": "x" * 5000}).status_code == 413


@pytest.mark.parametrize(
    ("origin", "host", "site", "secure", "own"),
    [
        ("http://a:1", "a:1", "", False, True),
        ("https://a", "a", "same-origin", False, True),  # something with TLS is before the node
        ("http://a:1", "a:1", "", True, False),
        ("http://a:2", "a:1", "", False, False),
        ("http://a:1.evil", "a:1", "", False, False),
        ("http://", "", "", False, False),
        ("null", "null", "", False, False),
    ],
)
def test_own_pages(origin: str, host: str, site: str, secure: bool, own: bool) -> None:
    assert from_own_page(origin, host, site, secure=secure) is own


@pytest.mark.parametrize(
    ("host", "own"),
    [("[::1]:1", True), ("10.0.0.1", True), ("LOCALHOST:2", True), ("[", False), ("", False), ("1.evil", False)],
)
def test_own_names(host: str, own: bool) -> None:
    assert is_own_name(host, set()) is own


def test_sessions_end() -> None:
    now = 0.0
    sessions = Sessions("litefs", secure=True, clock=lambda: now)
    words = [sessions.begin().partition(";")[0] for _ in range(MOST)]
    assert words[0].startswith("__Host-litefs=")
    assert all(map(sessions.known, words))
    assert sessions.known(f"other=1; {words[0]}; more=2")
    last = sessions.begin().partition(";")[0]
    assert not sessions.known(words[0])
    assert sessions.known(words[1])
    now = LIFETIME - 1
    assert sessions.known(last)
    now = LIFETIME
    assert not sessions.known(last)
    for nonsense in ("", "litefs", "__Host-litefs=", "=;=,\x00"):
        assert not sessions.known(nonsense)
