"""``litefs events``: against a served node, and over lost connections."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from litefs import cli
from litefs.cli.api import APIError, TransferError
from litefs.cli.events import describe
from litefs.cli.subscription import LINE_LIMIT, PAUSES, Line, StreamEnded, follow, lines
from litefs.http.app import build
from litefs.store.events import PrimaryChangeEvent
from tests.http_api.fakes import FakeNode
from tests.http_api.server import Server
from tests.support.nodes import COMMAND, free_port
from tests.support.waiting import wait_for


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


@pytest.fixture
def server(node: FakeNode) -> Iterator[Server]:
    server = Server(build(node.services), closing=node.services.closing)
    yield server
    server.stop()


class Reader:
    """The command in a process of its own.

    Attributes:
        out, err: files with what it has written.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.out, self.err = folder / "out", folder / "err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            # A shell has what it runs in the background ignore Ctrl-C, also these tests.
            command = ["env", "--default-signal=INT", COMMAND, "events", *arguments]
            self.process = subprocess.Popen(command, stdout=out, stderr=err)

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def wait_lines(self, count: int) -> list[str]:
        return wait_for(lambda: self.lines() if len(self.lines()) >= count else [], "lines")

    def interrupt(self) -> bool:
        """Press Ctrl-C, as a person would do again where Python looked for it a moment too early; whether it ended."""
        self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        return self.process.poll() is not None

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def start(*arguments: str) -> Reader:
        readers.append(Reader(tmp_path, *arguments))
        return readers[-1]

    yield start
    for reader in readers:
        reader.close()


def test_lines_come_at_once_and_a_signal_ends_it(node: FakeNode, server: Server, read: Callable[..., Reader]) -> None:
    reader = read("-url", server.url)
    assert reader.wait_lines(1) == ["init           this node is primary"]
    server.call(node.store.commit, "a b\n", 1)
    server.call(node.store.events.publish, PrimaryChangeEvent(False, "other"))
    first, second = reader.wait_lines(3)[1:]
    assert first.startswith("tx             a b\\n  0000000000000001  ")
    assert second == "primaryChange  primary is other"
    wait_for(reader.interrupt, "end by a signal")
    assert reader.process.returncode == 130
    assert "Traceback" not in reader.err.read_text()


def test_a_lost_connection_is_made_again(node: FakeNode, tmp_path: Path, read: Callable[..., Reader]) -> None:
    first = Server(build(node.services), closing=node.services.closing)
    reader = read("-url", first.url, "-json", "-filter", "tx", "-name", "x", "-count", "1")
    wait_for(lambda: len(node.store.events) == 1, "subscription")
    first.stop()
    wait_for(lambda: "trying again" in reader.err.read_text(), "notice of the loss")
    again = FakeNode(tmp_path / "again")
    second = Server(build(again.services), closing=again.services.closing, port=first.port)
    try:
        wait_for(lambda: len(again.store.events) == 1, "new subscription")
        for name in ("y", "x"):
            second.call(again.store.commit, name, 7)
        assert reader.process.wait(10) == 0
        (event,) = map(json.loads, reader.lines())
        assert (event["db"], event["data"]["txID"]) == ("x", f"{7:016x}")
        assert "connected again" in reader.err.read_text()
    finally:
        second.stop()


def test_filter_and_count(node: FakeNode, server: Server, read: Callable[..., Reader]) -> None:
    reader = read("-url", server.url, "-filter", "primaryChange", "-count=1")
    wait_for(lambda: len(node.store.events) == 1, "subscription")
    server.call(node.store.commit, "db", 1)
    server.call(node.store.events.publish, PrimaryChangeEvent(False, None))
    assert reader.process.wait(10) == 0
    assert reader.lines() == ["primaryChange  no primary is known"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-filter", "txs"], 2, '-filter: there is no event "txs": known are init, tx, primaryChange'),
        (["-count", "-1"], 2, "-count -1 is no number"),
        (["-url", f"http://127.0.0.1:{free_port()}"], 1, "cannot reach http://127.0.0.1"),
    ],
)
def test_failures(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["events", *arguments]) == code
    assert message in capsys.readouterr().err


def test_no_reconnect(node: FakeNode, server: Server, read: Callable[..., Reader]) -> None:
    reader = read("-url", server.url, "-no-reconnect")
    reader.wait_lines(1)
    server.call(node.services.closing.set)
    assert reader.process.wait(10) == 1
    assert reader.err.read_text() == f"ERROR: {server.url} has ended the stream\n"


# -------------------------------------------------------------------------------------------------- connections


class Script:
    """Connections that bring what a test says: lines, then an error."""

    def __init__(self, *connections: tuple[int, Exception]) -> None:
        self.connections = list(connections)
        self.said: list[str] = []
        self.slept: list[float] = []

    def events(self) -> Iterator[Line]:
        count, error = self.connections.pop(0)
        yield from [Line(b"{}", {"type": "tx"})] * count
        raise error

    def run(self, **options: Any) -> tuple[int, Exception]:
        seen = 0
        try:
            for _ in follow(self.events, say=self.said.append, sleep=self.slept.append, **options):
                seen += 1
        except Exception as error:
            return seen, error
        raise AssertionError


GONE, ENDED, REFUSED = TransferError("gone"), StreamEnded("ended"), APIError("invalid response: code=401")


def test_new_connections_and_their_pauses() -> None:
    script = Script((1, ENDED), *[(0, GONE)] * 7, (2, GONE), (0, REFUSED))
    assert script.run(wait=False, reconnect=True) == (3, REFUSED)
    assert script.slept == [*PAUSES, PAUSES[-1], PAUSES[-1], PAUSES[0]]
    assert script.said == ["ended; trying again", "connected again", "gone; trying again"]


@pytest.mark.parametrize(
    ("options", "connections", "seen"),
    [
        ({"wait": False, "reconnect": True}, [(0, GONE)], 0),
        ({"wait": True, "reconnect": False}, [(0, GONE), (1, GONE)], 1),
        ({"wait": False, "reconnect": False}, [(1, GONE)], 1),
    ],
)
def test_when_not_to(options: dict[str, bool], connections: list[tuple[int, Exception]], seen: int) -> None:
    script = Script(*connections)
    assert script.run(**options) == (seen, GONE)
    assert not script.connections


def test_lines() -> None:
    assert list(lines([b'{"a":', b'1}\n{}\n{"', b"\xe2\x80\xa8\x85", b'"}\n{"bro'])) == [
        b'{"a":1}',
        b"{}",
        b'{"\xe2\x80\xa8\x85"}',
    ]
    with pytest.raises(APIError, match="a line of more than"):
        list(lines(b"x" * 65536 for _ in range(LINE_LIMIT)))


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"type": "init", "data": {"isPrimary": False, "hostname": "b"}}, "init           primary is b"),
        (
            {"type": "tx", "db": "d\udcff", "data": {"txID": "1", "commit": 0}},
            "tx             d\\udcff  1  -  -  deleted",
        ),
        ({"type": "tx", "db": "d", "data": {"commit": 1}}, "tx             d  -  -  -  1 page"),
        ({"type": "later", "data": {"a": "\n"}}, 'later          {"a": "\\n"}'),
    ],
)
def test_describe(event: dict[str, Any], text: str) -> None:
    assert describe(event) == text
