"""What all measurements of one run have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.figures import Figure, Target
from bench.nodes import Node, NodeFailed, Program, running
from bench.processes import settle
from bench.scratch import good_place

MEMORY = 100e6  # bytes resident at most


@dataclass(slots=True)
class Session:
    """One run.

    Attributes:
        scratch: directory for everything.
        programs: the implementations that take part.
        rounds: how often each measurement is repeated; medians are shown.
        seconds: that one measurement of a rate takes.
        size: bytes of the big database.
        huge: bytes of the sparse one.
    """

    scratch: Path
    programs: list[Program]
    rounds: int
    seconds: float
    size: int
    huge: int
    peaks: dict[str, Figure] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def fresh(self, stem: str) -> Path:
        """A directory of its own."""
        return good_place(self.scratch, stem)

    @contextmanager
    def node(self, program: Program, primary: Node | None = None, more: str = "") -> Iterator[Node]:
        """A node that is ready; its memory is looked at before it ends."""
        stem = f"{program.name}-{'replica' if primary else 'primary'}"
        with running(program, self.fresh(stem), primary, more) as node, self.watched(node):
            yield node

    @contextmanager
    def watched(self, node: Node) -> Iterator[None]:
        """Look at a node's memory in the end; let others wait until it is idle meanwhile."""
        self.nodes.append(node)
        try:
            yield
            role, name = "replica" if node.primary else "primary", node.program.name
            own, child = node.memory()
            self._peaks(role).add(name, own)
            if child:
                self._peaks(f"{role}'s client process").add(name, child)
        except NodeFailed as error:
            error.add_note(node.log_end())
            raise
        finally:
            self.nodes.remove(node)

    def _peaks(self, what: str) -> Figure:
        target = None if "process" in what else Target("", MEMORY)
        return self.peaks.setdefault(what, Figure(f"peak memory, {what}", "bytes", target=target, worst=True))

    def settle(self) -> None:
        """Wait until no node has anything left to do, and the disk neither."""
        settle([pid for node in self.nodes for pid in node.pids], self.scratch)

    def work(self, kind: str, **arguments: object) -> Any:
        """Have `bench.work` do something, to its end; what it returned."""
        with self.working(kind, **arguments) as worker:
            return worker.result()

    @contextmanager
    def working(self, kind: str, **arguments: object) -> Iterator[Worker]:
        """Have `bench.work` do something meanwhile."""
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.work", kind, json.dumps(arguments, default=str)],
            cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            yield Worker(process)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    def memory(self, where: str) -> Iterator[Figure]:
        """Peak memory of the nodes since the last call."""
        for figure in self.peaks.values():
            figure.title += f" ({where})"
            yield figure
        self.peaks = {}


class Worker:
    """A process that works."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def finish(self) -> None:
        """Tell it to come to an end."""
        pipe: IO[bytes] | None = self._process.stdin
        assert pipe is not None
        pipe.close()

    def result(self) -> Any:
        """Wait for its end; what it returned."""
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if self._process.wait() != 0:
            raise NodeFailed("an application failed, see above")
        return json.loads(text)
