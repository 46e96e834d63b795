"""The web page, in a real browser."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.vault import Vault
from litefs_cloud_server.sqlitefile import as_transaction
from litefs_cloud_server.web.sessions import LIFETIME, LIMIT, Sessions

from litefs.ltx import Pos
from tests.support.browser import Browser, BrowserError, running_browser
from tests.support.cloud import CloudServer
from tests.support.waiting import wait_for

NASTY = """<b onmouseover="x()">'&"</b><script>x()</script>.db""".replace("/", "|")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def browser(server: CloudServer, chromium: Browser) -> Iterator[Browser]:
    """Logged out; what the browser complains about fails the test."""
    chromium.open(f"{server.url}/login")
    chromium.forget()
    yield chromium
    chromium.allow_scripts(True)
    assert [text for text in chromium.complaints() if "status of 4" not in text] == []


def log_in(browser: Browser, server: CloudServer, token: str) -> None:
    browser.open(f"{server.url}/login")
    browser.find("input[name=token]").type(token)
    browser.find("button").follow()


def image(*rows: str) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(row,) for row in rows])
        connection.commit()
        return connection.serialize()


def api(server: CloudServer, token: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": token}, trust_env=False, timeout=30)


def fill(server: CloudServer, states: int = 3, name: str = "app.db") -> list[bytes]:
    """So many states of a database of cluster one, an hour apart, as files that are merged already; their content.

    The server must not have opened the cluster yet.
    """
    images = [image(*(f"row {n}" for n in range(number))) for number in range(1, states + 1)]
    vault = Vault(FolderObjects(server.folder / "clusters" / server.cluster("one")))
    vault.claim()
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "source"), Path(scratch, "target")
        pos = Pos(0, 0)
        for number, content in enumerate(images):
            source.write_bytes(content)
            moment = time.time_ns() // 1_000_000 - (states - number) * 3_600_000
            with open(source, "rb") as file, open(target, "wb") as output:
                head, trailer = as_transaction(file.fileno(), output, pos, moment)
            vault.store(name, 3, target)
            pos = Pos(head.max_txid, trailer.post_apply)
    vault.update(
        name, lambda old: replace(old, pos=pos, timestamp=moment, page_size=head.page_size, commit=head.commit)
    )
    return images


def newest(server: CloudServer, token: str, name: str = "app.db") -> tuple[int, bytes]:
    with api(server, token) as client:
        txid = int(client.get("/pos").json()[name]["TXID"], 16)
        return txid, client.get("/db/snapshot", params={"db": name, "format": "sqlite"}).content


def test_look_download_restore(browser: Browser, server: CloudServer) -> None:
    browser.allow_scripts(False)
    token = server.token("one")
    images = fill(server)
    log_in(browser, server, "lfsc_000000000000_" + "A" * 43)
    assert "not valid" in browser.find("[role=alert]").text
    log_in(browser, server, token)
    assert browser.find("h1").text == server.cluster("one")
    browser.link("app.db").follow()
    assert [row.text.split()[0] for row in browser.find_all("tbody tr")] == ["3", "2", "1"]
    assert "Restore" not in browser.find_all("tbody tr")[0].text
    # One that is named by its transaction, to look at and to keep.
    browser.find("input[name=txid]").type("2")
    browser.find_all("main form button, form[action$='/db'] button")[1].follow()
    assert "Transaction 2 of" in browser.find(".state").text
    browser.find(".state a").click()
    file = browser.downloads / "app-2.db"
    wait_for(lambda: file.exists() and file.read_bytes() == images[1], "the download")
    file.unlink()
    browser.find_all(".state a")[1].follow()
    assert "Restore app.db" in browser.title
    assert newest(server, token)[0] == 3
    browser.find("form[action$='/restore'] button").follow()
    assert "as transaction 4" in browser.find("[role=status]").text
    assert "has not fetched it yet" in browser.text
    assert newest(server, token) == (4, images[1])
    browser.reload()
    assert not browser.find_all("[role=status]")
    # Undone, from the list.
    browser.find_all("tbody tr")[1].link("Restore…").follow()
    browser.find("form[action$='/restore'] button").follow()
    assert newest(server, token) == (5, images[2])
    browser.find("header form button").follow()
    assert browser.url == f"{server.url}/login"
    browser.back()
    browser.open(f"{server.url}/c/{server.cluster('one')}")
    assert browser.url == f"{server.url}/login"


def test_at_a_time(browser: Browser, server: CloudServer) -> None:
    token = server.token("one")
    fill(server)
    with api(server, token) as client:
        first = client.get("/db/info", params={"db": "app.db"}).json()["minTimestamp"]
    log_in(browser, server, token)
    page = f"{server.url}/c/{server.cluster('one')}/db"
    browser.open(f"{page}?db=app.db&at={first[:-1]}")
    assert "Transaction 1 of" in browser.find(".state").text
    browser.open(f"{page}?db=app.db&at=2001-01-01T00:00:00")
    assert "nothing is kept of that time" in browser.find("[role=alert]").text
    browser.open(f"{page}?db=app.db&at=noon")
    assert "cannot read" in browser.find("[role=alert]").text
    browser.open(f"{page}?db=none.db")
    assert "not found" in browser.find("[role=alert]").text


def test_many_states(browser: Browser, server: CloudServer, tmp_path: Path) -> None:
    token = server.token("one")
    fill(server, 120)
    log_in(browser, server, token)
    browser.link("app.db").follow()
    assert len(browser.find_all("tbody tr")) == 50
    assert len(browser.find_all("svg rect")) > 1
    browser.link("Older states").follow()
    assert browser.find("tbody tr").text.split()[0] == f"{70:x}"
    browser.find("svg a:last-of-type").follow()
    assert browser.find("tbody tr").text.split()[0] == f"{120:x}"
    browser.screenshot(tmp_path / "page.png")


def test_a_token_that_may_only_read(browser: Browser, server: CloudServer) -> None:
    token, reader = server.token("one"), server.token("one", read_only=True)
    images = fill(server)
    log_in(browser, server, reader)
    browser.link("app.db").follow()
    assert "Download" in browser.text
    assert "Restore" not in browser.text
    browser.open(f"{server.url}/c/{server.cluster('one')}/restore?db=app.db&txid=1")
    assert "can only look" in browser.find("[role=alert]").text
    with visitor(server, reader) as client:
        fields = {"db": "app.db", "txid": "1", "proof": proof(client, f"/c/{server.cluster('one')}")}
        assert client.post(f"/c/{server.cluster('one')}/restore", data=fields).status_code == 403
    assert newest(server, token) == (3, images[2])


def test_all_clusters(browser: Browser, server: CloudServer) -> None:
    server.token("one")
    two = server.token("two")
    fill(server)
    log_in(browser, server, server.manager(read_only=True))
    assert browser.find("h1").text == "Clusters"
    names = [row.text.split()[0] for row in browser.find_all("tbody tr")]
    assert {server.cluster("one"), server.cluster("two")} <= set(names)
    browser.link(server.cluster("two")).follow()
    assert "LITEFS_CLOUD_ENDPOINT" in browser.text
    log_in(browser, server, two)
    browser.open(f"{server.url}/c/{server.cluster('one')}")
    assert "no such cluster" in browser.find("[role=alert]").text


def test_another_cluster_asks_for_the_backup(browser: Browser, server: CloudServer) -> None:
    token, old, new = server.token("one"), "LFSC0123456789ABCDEF", "LFSCFEDCBA9876543210"

    def ask(cluster_id: str) -> int:
        with api(server, token) as client:
            return client.get("/pos", headers={"litefs-cluster-id": cluster_id}).status_code

    assert [ask(old), ask(new)] == [200, 422]
    log_in(browser, server, server.token("one", read_only=True))
    assert new in browser.find("[role=alert]").text
    assert not browser.find_all("[role=alert] button")
    log_in(browser, server, token)
    browser.find("[role=alert] button").follow()
    assert new in browser.find("[role=status]").text
    assert not browser.find_all("[role=alert]")
    assert [ask(new), ask(old)] == [200, 422]


def test_names_are_text(browser: Browser, server: CloudServer) -> None:
    token = server.token("one")
    images = fill(server, name=NASTY)
    log_in(browser, server, token)
    browser.link(NASTY).follow()
    assert browser.find("h1").text == NASTY
    assert not browser.find_all("script, h1 b")
    browser.find_all("tbody tr")[1].link("Restore…").follow()
    browser.find("form[action$='/restore'] button").follow()
    assert newest(server, token, NASTY) == (4, images[1])


@contextmanager
def other_page(content: str) -> Iterator[str]:
    """Another web server of this machine; the URL of its page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{site.server_port}/"
        finally:
            site.shutdown()
            thread.join()


def test_other_pages_cannot_send_forms(browser: Browser, server: CloudServer) -> None:
    token = server.token("one")
    images = fill(server)
    log_in(browser, server, token)
    stolen = browser.find("input[name=proof]").attribute("value") or ""
    fields = {"db": "app.db", "txid": "1", "proof": stolen}
    inputs = "".join(f'<input name="{name}" value="{escape(value)}">' for name, value in fields.items())
    target = f"{server.url}/c/{server.cluster('one')}/restore"
    # The browser sends our cookie along: another port is no other site. Even the proof would not help.
    with other_page(f'<link rel=icon href="data:,"><form method="post" action="{target}">{inputs}<button>') as url:
        browser.open(url)
        browser.find("button").follow()
    assert "another web page" in browser.find("[role=alert]").text
    assert newest(server, token) == (3, images[2])


@contextmanager
def visitor(server: CloudServer, token: str) -> Iterator[httpx.Client]:
    """Logged in, without a browser."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        answer = client.post("/login", data={"token": token})
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert token.lower() not in cookie
        yield client


def proof(client: httpx.Client, path: str) -> str:
    found = client.get(path).text
    return found.partition('name="proof" value="')[2].partition('"')[0]


def test_what_protects_a_session(server: CloudServer) -> None:
    token = server.token("one")
    fill(server)
    home = f"/c/{server.cluster('one')}"
    fields = {"db": "app.db", "txid": "1"}
    with visitor(server, token) as client:
        answer = client.get(home)
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert token not in answer.text
        good = {**fields, "proof": proof(client, home)}
        for data, headers in (
            (fields, {}),
            ({**fields, "proof": "x"}, {}),
            (good, {"origin": "https://elsewhere.example"}),
            (good, {"origin": "null"}),
            (good, {"sec-fetch-site": "cross-site"}),
        ):
            assert client.post(f"{home}/restore", data=data, headers=headers).status_code == 403
        assert client.post("/logout", data={}).status_code == 403
        assert client.post("/login", content=b"x" * 10_000).status_code == 413
        assert client.get(f"{home}/../other/db?db=app.db").status_code == 404
        assert newest(server, token)[0] == 3
        # The cookie is for the page, and not for the API.
        assert client.get("/pos").status_code == 401
        # A token that is revoked ends its sessions.
        server.litefs("token", "revoke", token.split("_")[1])
        assert client.get(home).headers["location"] == "/login"
        secure = client.post("/login", data={"token": server.token("one")}, headers={"x-forwarded-proto": "https"})
        assert "secure" in secure.headers["set-cookie"].lower()
    assert httpx.get(f"{server.url}{home}", trust_env=False).headers["location"] == "/login"


def test_sessions_end() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    first, _ = sessions.begin("a")
    now[0] = LIFETIME
    assert sessions.find(first) is not None
    second, _ = sessions.begin("b")
    now[0] = LIFETIME + 1
    assert sessions.find(first) is None
    assert sessions.find("") is None
    for _ in range(LIMIT):
        sessions.begin("c")
    assert sessions.find(second) is None


def test_the_browser_says_what_it_cannot_do(browser: Browser) -> None:
    with pytest.raises(BrowserError):
        browser.find("#nothing")
