"""The status page as somebody sees it, in a real browser."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from litefs.http.app import build
from litefs.http.sessions import Sessions
from litefs.http.tls import server_context
from tests.security.certificates import Authority
from tests.support.browser import Browser, running_browser
from tests.support.nodes import Node
from tests.support.waiting import wait_for

from .fakes import FakeNode
from .server import Server

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def nodes(make_node: Callable[..., Node]) -> tuple[Node, Node]:
    """A primary and its replica, with a token."""
    settings = {"http": {"auth-token": TOKEN}}
    one = make_node("one", settings=settings).start()
    with closing(sqlite3.connect(one.path("first.db"))) as db:
        db.execute("create table t (x)")
    return one, make_node("two", primary=one, settings=settings).start()


def shows(browser: Browser, css: str, text: str) -> None:
    """Wait until an element has the text in it."""
    script = "const found = document.querySelector(arguments[0]); return found ? found.innerText : ''"
    wait_for(lambda: text in browser.run(script, css), f'"{text}" in {css}', 30)


def test_from_the_login_to_the_end_of_the_node(browser: Browser, nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    browser.open(f"{one.url}/")
    browser.complaints()  # of the 401
    browser.find("#token").type("a guess")
    browser.find("form button").follow()
    assert "not the token" in browser.text
    browser.find("#token").type(TOKEN)
    browser.find("form button").follow()
    browser.complaints()

    shows(browser, "#live", "live")
    shows(browser, "#role", "primary")
    shows(browser, "#databases", "first.db")
    wait_for(lambda: "first.db" in browser.find("#databases").text, "the first database")
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Strict" for cookie in browser.cookies())
    assert browser.run("return document.cookie") == ""
    (cookie_of_one,) = (cookie["name"] for cookie in browser.cookies())

    # What happens is there without a reload, whatever it is called.
    name = "<img src=x onerror=alert(1)>.db"
    with closing(sqlite3.connect(one.path(name))) as db:
        db.execute("create table t (x)")
        shows(browser, "#events", f"{name} 0000000000000001")
        db.execute("insert into t values (1)")
        db.commit()
    shows(browser, "#events", f"{name} 0000000000000002")
    shows(browser, "#databases", name)
    browser.find("#filter").type("first")
    wait_for(lambda: name not in browser.find("#databases").text, "the filtered list")

    # A button of the page is the command: this lease cannot be handed over, and that is what is said.
    browser.find("#demote").click()
    browser.find("#yes").click()
    shows(browser, "#done", "refused: cannot demote")
    complaints = browser.complaints()
    assert all("/demote" in each for each in complaints), complaints

    browser.open(f"{two.url}/")
    browser.find("#token").type(TOKEN)
    browser.find("form button").follow()
    shows(browser, "#role", "replica")
    shows(browser, "#facts", "ms")
    shows(browser, "#databases", "first.db")
    one.stop()
    shows(browser, "#facts", "none")
    browser.find("#logout").follow()
    assert browser.find_all("#token")
    assert [cookie["name"] for cookie in browser.cookies()] == [cookie_of_one]  # cookies do not tell ports apart


def test_buttons(browser: Browser, node: FakeNode, make_server: Callable[..., Server]) -> None:
    server = make_server(build(node.services), closing=node.services.closing)
    members = [
        {"id": "00000000000000AA", "hostname": "b", "advertiseURL": "http://b:1", "candidate": True, "connected": True},
        {
            "id": "00000000000000BB",
            "hostname": "c",
            "advertiseURL": "javascript:x",
            "candidate": False,
            "connected": True,
        },
    ]
    said: dict[str, Any] = {
        "id": "00000000000000FF", "hostname": "a", "advertiseURL": server.url, "version": "1", "clusterID": "LFSC",
        "role": "primary", "candidate": True, "ready": True, "reason": "", "primary": {"hostname": "a"}, "lagMs": 0,
        "leaseRemainingMs": 900, "leaseType": "fake", "members": members, "databases": {},
    }  # fmt: skip

    async def status(*, databases: bool = True) -> dict[str, object]:
        return dict(said)

    node.services.status = status
    browser.open(f"{server.url}/")
    shows(browser, "#facts", "0.9 s left")
    assert not browser.find("#logout").text  # there is no token
    assert [link.attribute("href") for link in browser.find_all("#nodes a")] == [f"{server.url}", "http://b:1"]
    assert not browser.find("#promote").text

    browser.find("#demote").click()
    browser.find("#no").click()
    browser.run("document.querySelector('#target').value = '00000000000000AA'")
    browser.find("#demote").click()
    assert "to b" in browser.find("#question").text
    browser.find("#yes").click()
    shows(browser, "#done", "agreed")
    assert node.leadership.demotions == [0xAA]

    said.update(role="replica", primary={"hostname": "b"}, lagMs=5)
    node.role.is_primary, node.role.primary = False, node.role.primary
    shows(browser, "#role", "replica")
    shows(browser, "#promote", "Promote this node")
    browser.find("#promote").click()
    browser.find("#yes").click()
    shows(browser, "#done", "refused: no primary is currently available")
    assert browser.find("#demote").text == ""


def test_a_disk_that_fails_while_somebody_looks(
    browser: Browser, node: FakeNode, make_server: Callable[..., Server]
) -> None:
    database = {"txid": "000000000000001f", "checksum": "8000000000000001", "pages": 2, "halted": False}

    async def status(*, databases: bool = True) -> dict[str, object]:
        return {"hostname": "a", "role": "primary", **({"databases": {"app.db": dict(database)}} if databases else {})}

    node.services.status = status
    server = make_server(build(node.services), closing=node.services.closing)
    browser.open(f"{server.url}/")
    shows(browser, "#databases", "app.db")
    assert "the disk" not in browser.find("#databases").text
    database["failed"] = True
    shows(browser, "#databases", "the disk has failed to store it")


def test_over_tls(browser: Browser, node: FakeNode, make_server: Callable[..., Server], tmp_path: Path) -> None:
    """Which browsers do over HTTP/2, with cookies that go over TLS only."""
    certificate = Authority(tmp_path, "ours").sign("localhost")
    node.services.token, node.services.secure = TOKEN, True
    node.services.sessions = Sessions("litefs", secure=True)
    tls = server_context(certificate.cert, certificate.key)
    server = make_server(build(node.services), closing=node.services.closing, tls=tls)
    browser.open(f"{server.url}/")
    browser.find("#token").type(TOKEN)
    browser.find("form button").follow()
    shows(browser, "#live", "live")
    (cookie,) = (cookie for cookie in browser.cookies() if cookie["name"].startswith("__Host-"))
    assert cookie["secure"]
    protocol = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
    assert browser.run(protocol) == "h2"
    server.call(node.store.commit, "app.db", 7)
    shows(browser, "#events", "app.db 0000000000000007")
    browser.run("fetch('/demote', {method: 'POST'})")
    wait_for(lambda: node.leadership.demotions == [None], "the request of the page")
