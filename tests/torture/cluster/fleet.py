"""Three nodes that elect their primary through a real Consul, each on a host of its own, under constant writes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.consul import Consul
from tests.support.nodes import COMMAND, Node
from tests.support.waiting import wait_for

from .history import History, Key, Verdict, judge, rows
from .writer import SCHEMA

WRITER = Path(__file__).with_name("writer.py")
NAME = "app.db"
ANSWER = 1.0  # seconds for a node to answer a small request
TTL = 3.0  # seconds; less than a Consul takes that is not told to
CRASH_LIMIT = 2 * TTL + 15.0  # seconds until somebody writes again: Consul may keep a dead session for twice its time
SETTLE = 30.0  # seconds until all nodes are at the same position once the load has ended


class Fleet:
    """The nodes and the applications on them.

    Attributes:
        consul: where they take their lease.
        downtimes: longest time in seconds without an acknowledged write, for each thing that was done to the cluster.
        verdict: what became of the writes, once it is known.
    """

    def __init__(self, nodes: Sequence[Node], directory: Path, consul: Consul, *, pause: float = 0.005) -> None:
        self.nodes = list(nodes)
        self.consul = consul
        self.downtimes: list[float] = []
        self.verdict: Verdict | None = None
        self._directory = directory
        self._pause = pause
        self._writers: dict[str, subprocess.Popen[bytes]] = {}

    # ------------------------------------------------------------------------------------------------ coming up

    def start(self) -> Fleet:
        """Bring up the nodes, the first one as primary, and a writer on each."""
        first, *others = self.nodes
        first.start()
        with_table = sqlite3.connect(first.path(NAME), isolation_level=None)
        with_table.execute("PRAGMA journal_mode = WAL")
        with_table.execute(SCHEMA)
        with_table.close()
        for node in others:
            node.start()
        for node in self.nodes:
            self._write_on(node)
        self.wait_progress(20.0)
        return self

    def _write_on(self, node: Node) -> None:
        command = [sys.executable, str(WRITER), node.path(NAME), str(self.record(node)), node.name, str(self._pause)]
        log = self._directory / f"{node.name}.writer.log"
        with open(log, "ab") as out:
            self._writers[node.name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def record(self, node: Node) -> Path:
        """What the writer on a node was told."""
        return self._directory / f"{node.name}.record"

    def close(self) -> None:
        """End the writers."""
        for writer in self._writers.values():
            if writer.poll() is None:
                os.kill(writer.pid, signal.SIGKILL)
        for node in self.nodes:
            if node.running:
                assert node.process is not None
                os.kill(node.process.pid, signal.SIGCONT)  # a writer in a request of a stopped node cannot die
        for writer in self._writers.values():
            writer.wait(20)

    # -------------------------------------------------------------------------------------------------- looking

    def history(self) -> History:
        """What all writers were told so far."""
        history = History()
        for node in self.nodes:
            history.read(node.name, self.record(node))
        return history

    def primary(self, among: Sequence[Node] | None = None) -> Node:
        """Wait for the primary."""

        def find() -> Node | None:
            for node in self.nodes if among is None else among:
                try:
                    if node.running and node.info(ANSWER)["isPrimary"]:
                        return node
                except OSError:
                    pass
            return None

        return wait_for(find, "primary", CRASH_LIMIT)  # type: ignore[return-value]

    def others(self, node: Node) -> list[Node]:
        """All nodes but this one."""
        return [other for other in self.nodes if other is not node]

    # ------------------------------------------------------------------------------------------------- progress

    def acknowledged_since(self, moment: float, among: Sequence[Node] | None = None) -> float | None:
        """Time of the first write acknowledged after a moment."""
        history = History()
        for node in self.nodes if among is None else among:
            history.read(node.name, self.record(node))
        return min((at for at in history.acknowledged.values() if at > moment), default=None)

    def wait_progress(self, limit: float, among: Sequence[Node] | None = None) -> float:
        """Wait until a write is acknowledged; the seconds that it took."""
        moment = time.time()
        found = wait_for(lambda: self.acknowledged_since(moment, among), "acknowledged write", limit)
        assert found is not None
        return found - moment

    def run_load(self, count: int = 100) -> None:
        """Wait for that many more acknowledged writes."""
        wanted = len(self.history().acknowledged) + count
        wait_for(lambda: len(self.history().acknowledged) >= wanted, f"{count} writes", CRASH_LIMIT)

    def disturb(self, what: Callable[[], None], limit: float, among: Sequence[Node] | None = None) -> None:
        """Do something to the cluster, and wait until writes are acknowledged again."""
        self.run_load()
        started = time.time()
        what()
        moment = time.time()
        self.wait_progress(limit, among)
        first = self.acknowledged_since(moment, among)
        assert first is not None
        self.downtimes.append(self.history().longest_silence(started, first))

    # -------------------------------------------------------------------------------------------------- the end

    def settle(self) -> Verdict:
        """End the load, wait until the nodes agree, and hold what they have against what the writers were told."""
        self.close()
        primary = self.primary()
        with sqlite3.connect(primary.path(NAME), timeout=20) as last:
            last.execute("INSERT INTO entries (node, n, at) VALUES ('settle', 1, 0)")
        pos = primary.pos(NAME)
        for node in self.nodes:
            node.wait_pos(NAME, pos, SETTLE)
        exports = [self._export(node) for node in self.nodes]
        assert len({export.read_bytes() for export in exports}) == 1, "the nodes differ"
        self.verdict = judge(self.history(), [key for key in rows(exports[0]) if key[0] != "settle"])
        return self.verdict

    def _export(self, node: Node) -> Path:
        target = self._directory / f"{node.name}.export"
        target.write_bytes(node.export(NAME, timeout=SETTLE))
        return target

    def kept(self) -> set[Key]:
        """Writes in the branches that the nodes have kept."""
        found: set[Key] = set()
        for node in self.nodes:
            for branch in self._litefs(node, "list", "--json"):
                target = self._directory / f"{node.name}.branch"
                self._litefs(node, "export", branch["name"], "-o", str(target))
                found.update(rows(target))
                target.unlink()
        return found

    @staticmethod
    def _litefs(node: Node, *arguments: str) -> Any:
        command = [str(COMMAND), "branches", *arguments, "-config", str(node.configuration)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SETTLE)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if arguments[0] == "list" else None
