"""As a new user would: a server for backups, a token, two nodes. The primary changes while transactions are made; all
of the cluster is lost; a table is dropped by mistake.

With ``--torture-rounds N`` it is 10,000 transactions and N changes of the primary; the cluster that is made anew is
another one, to which the server gives the backup after a minute; and the mistake is a minute old when it is seen.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.support.browser import Browser, running_browser
from tests.support.cloud import CloudServer, running_cloud
from tests.support.consul import Consul, running_consul
from tests.support.nodes import Node
from tests.support.sql import sql
from tests.support.waiting import wait_for

NAME = "app.db"
KEY = "litefs/story"
LIMIT = 60.0  # seconds for what takes a few
PASSED_ON = 120.0  # seconds; the server waits for one minute of silence


class Story:
    """Two nodes of a cluster, and the server that they back up to.

    Attributes:
        token: made with the command that LiteFS's guide names.
    """

    def __init__(self, server: CloudServer, consul: Consul, make_node: Callable[..., Node]) -> None:
        self.server = server
        self.consul = consul
        self.token = server.litefs("auth", "token", "-cluster", "shop").strip()
        self.nodes = [make_node(name) for name in "ab"]
        for node in self.nodes:
            lease = {"type": "consul", "hostname": node.name, "advertise-url": node.url, "reconnect-delay": "100ms"}
            node.configure({"lease": {**lease, "consul": {"url": consul.url, "key": KEY, "ttl": "2s"}}})
            node.expected += ["lease", "cluster id mismatch"]

    def spawn(self) -> None:
        for node in self.nodes:
            node.spawn(env={"LITEFS_CLOUD_TOKEN": self.token, "LITEFS_CLOUD_ENDPOINT": self.server.url})

    @property
    def primary(self) -> Node:
        return wait_for(lambda: next((node for node in self.nodes if node.is_primary), None), "a primary", LIMIT)

    def promote(self, node: Node) -> None:
        node.post("/promote")
        wait_for(lambda: node.is_primary, f"{node.name} as primary", LIMIT)

    def wait_same(self) -> None:
        a, b = self.nodes
        wait_for(lambda: a.pos(NAME) == b.pos(NAME), "the same position on both nodes", LIMIT)

    def wait_saved(self) -> None:
        wait_for(lambda: self.saved() == str(self.primary.pos(NAME)), "the backup", LIMIT)

    def saved(self) -> str:
        """Where the backup stands."""
        found = httpx.get(f"{self.server.url}/pos", headers={"Authorization": self.token}, trust_env=False, timeout=30)
        return "/".join(found.json().get(NAME, {}).values())


class Writer:
    """Makes one transaction after the other, wherever the primary is, until it is left; each is one row."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._enough = False
        self._thread = threading.Thread(target=self._main)
        self._error: BaseException | None = None
        self.done = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough = True
        self._thread.join()
        if self._error is not None:
            raise self._error

    def wait(self, number: int) -> None:
        wait_for(lambda: self.done >= number or self._error, f"transaction {number}", 600)

    def _main(self) -> None:
        try:
            while not self._enough:
                with suppress(sqlite3.OperationalError):  # not the primary any more
                    self._write(self._story.primary)
        except BaseException as error:
            self._error = error

    def _write(self, node: Node) -> None:
        with closing(sqlite3.connect(node.path(NAME), timeout=10, isolation_level=None)) as connection:
            while not self._enough:
                # What got an error may be there all the same, as after any crash.
                connection.execute("INSERT OR IGNORE INTO t VALUES (?, randomblob(50))", (self.done,))
                self.done += 1


@pytest.fixture
def story(tmp_path: Path, make_node: Callable[..., Node]) -> Iterator[Story]:
    with running_cloud(tmp_path) as server, running_consul(tmp_path) as consul:
        yield Story(server, consul, make_node)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with running_browser(tmp_path / "browser") as found:
        yield found


def test_a_users_story(story: Story, browser: Browser, pytestconfig: pytest.Config) -> None:
    rounds = pytestconfig.getoption("--torture-rounds")
    started = time.monotonic()
    story.spawn()
    for node in story.nodes:
        node.wait_ready()
    sql(story.primary.path(NAME), "PRAGMA journal_mode=wal", "CREATE TABLE t (n INTEGER PRIMARY KEY, data)")
    total = write_while_the_primary_changes(story, 10_000 if rounds else 300, rounds or 2)
    written = time.monotonic()
    image, pos = story.primary.export(NAME), story.primary.pos(NAME)
    assert sql(story.primary.path(NAME), "SELECT count(*), max(n) FROM t") == [(total, total - 1)]

    lose_everything(story, keep_identity=not rounds)
    for node in story.nodes:
        assert (node.pos(NAME), node.export(NAME)) == (pos, image)
    back = time.monotonic()

    moment = make_a_mistake(story, pause=60.0 if rounds else 0.0)
    browser.open(story.server.url)
    browser.find("input[name=token]").type(story.token)
    browser.find("button").follow()
    with closing(sqlite3.connect(story.primary.path(NAME))) as reader:
        tables = "SELECT name FROM sqlite_master"
        assert reader.execute(tables).fetchall() == [("other",)]
        restore_by_page(browser, moment)
        wait_for(lambda: reader.execute(tables).fetchall() == [("t",)], "the table", LIMIT)
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (total,)
    story.wait_same()
    for node in story.nodes:
        assert sql(node.path(NAME), "SELECT count(*) FROM t") == [(total,)]
    browser.reload()
    assert "the primary fetched it" in browser.text
    sql(story.primary.path(NAME), "INSERT INTO t VALUES (-1, 0)")
    story.wait_saved()
    assert story.token not in "".join(node.log_file.read_text() for node in story.nodes)
    print(
        f"{total} transactions in {written - started:.1f} s, the cluster back after {back - written:.1f} s, "
        f"all in {time.monotonic() - started:.1f} s"
    )


def write_while_the_primary_changes(story: Story, count: int, changes: int) -> int:
    """At least so many transactions; how many it were."""
    with Writer(story) as writer:
        for number in range(1, changes + 1):
            writer.wait(number * count // (changes + 1))
            before = story.primary
            story.promote(next(node for node in story.nodes if node is not before))
        writer.wait(count)
    story.wait_same()
    story.wait_saved()
    return writer.done


def lose_everything(story: Story, *, keep_identity: bool) -> None:
    """Kill all, delete all; then start again, with nothing but a token."""
    identity = (story.nodes[0].data / "clusterid").read_text()
    for node in story.nodes:
        node.kill()
        shutil.rmtree(node.data)
        if keep_identity:
            node.data.mkdir()
            (node.data / "clusterid").write_text(identity)
    story.consul.request("DELETE", f"/v1/kv/{KEY}?recurse")
    story.spawn()
    for node in story.nodes:
        wait_for(node._is_ready, f"ready node {node.name}", LIMIT if keep_identity else PASSED_ON)


def make_a_mistake(story: Story, pause: float) -> str:
    """Drop a table, so many seconds after a moment at which it was there: a whole second, in UTC."""
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    until = moment + timedelta(seconds=max(0.1, pause))
    wait_for(lambda: datetime.now(UTC) > until, "some time to pass", pause + 30)
    sql(story.primary.path(NAME), "DROP TABLE t", "CREATE TABLE other (x)")
    story.wait_saved()
    return moment.replace(tzinfo=None).isoformat()


def restore_by_page(browser: Browser, moment: str) -> None:
    browser.link(NAME).follow()
    browser.run("document.querySelector('input[name=at]').value = arguments[0]", moment)
    browser.find("form[action$='/db'] button").follow()
    browser.find(".state").link("Restore…").follow()
    browser.find("form[action$='/restore'] button").follow()
    assert "is back, as transaction" in browser.find("[role=status]").text
