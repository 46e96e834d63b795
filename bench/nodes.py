"""The contestants: plain directories and nodes of either implementation, started and ended."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import children, peak_memory

START_LIMIT = 120.0  # seconds; real LiteFS reads every database at start
STOP_LIMIT = 60.0
POLL = 0.001

_CONFIG = """\
fuse: {{dir: "{mount}"}}
data: {{dir: "{data}"}}
http: {{addr: "127.0.0.1:{port}"}}
lease: {{type: static, hostname: {hostname}, advertise-url: "http://127.0.0.1:{primary_port}", candidate: {candidate}}}
"""


class NodeFailed(Exception):
    """A node did not do what it should; says what its log ends with."""


@dataclass(frozen=True, slots=True)
class Program:
    """One implementation.

    Attributes:
        name: as shown in tables.
        command: what the subcommands are appended to.
    """

    name: str
    command: Sequence[str]

    def run(self, *arguments: str | Path) -> None:
        """Run a subcommand to its end.

        Raises:
            NodeFailed: it did not succeed.
        """
        done = subprocess.run([*self.command, *map(str, arguments)], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise NodeFailed(f"{self.name} {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")


def find_programs() -> list[Program]:
    """Ours, and real LiteFS where LITEFS_PEER names it."""
    own = os.environ.get("LITEFS_CMD")
    beside = Path(sys.executable).with_name("litefs")
    programs = [Program("ours", shlex.split(own) if own else [str(beside if beside.exists() else "litefs")])]
    if peer := os.environ.get("LITEFS_PEER"):
        programs.append(Program("LiteFS", [peer]))
    return programs


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(eq=False)
class Node:
    """A node with a static lease.

    Args:
        program: which implementation.
        path: directory of its own; `data` in it may be filled beforehand.
        primary: the node to replicate from; None: this one is the primary.
        more: lines of litefs.yml.
    """

    program: Program
    path: Path
    primary: Node | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    more: str = ""

    @property
    def mount(self) -> Path:
        return self.path / "mnt"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        """Of the node and the processes it started."""
        return [self.pid, *children(self.pid)]

    def memory(self) -> tuple[int, int]:
        """Peak resident bytes of the node, and of its children together."""
        return peak_memory(self.pid), sum(map(peak_memory, children(self.pid)))

    def start(self) -> float:
        """Start it; the seconds until the mount answered."""
        for directory in (self.mount, self.data):
            directory.mkdir(parents=True, exist_ok=True)
        primary = self.primary or self
        text = _CONFIG.format(
            mount=self.mount,
            data=self.data,
            port=self.port,
            primary_port=primary.port,
            hostname="bench",
            candidate="true" if self.primary is None else "false",
        )
        (self.path / "litefs.yml").write_text(text + self.more)
        with open(self.path / "log", "wb") as log:
            begin = time.perf_counter()
            # In a session of its own: Ctrl-C is for us, and we end it.
            self.process = subprocess.Popen(
                [*self.program.command, "mount", "-config", str(self.path / "litefs.yml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._until(lambda: os.path.ismount(self.mount), "not mounted")
        return time.perf_counter() - begin

    def wait_ready(self) -> None:
        """Wait until it has its role: a primary may write, a replica has caught up."""
        self._until(lambda: b"connected to cluster, ready" in (self.path / "log").read_bytes(), "not ready")

    def wait_position(self, name: str, position: bytes, interval: float = POLL) -> None:
        """Wait until a database has a position."""
        self._until(lambda: self.position(name) == position, f"{name} does not get to {position!r}", interval)

    def wait_written(self, name: str, interval: float = POLL) -> None:
        """Wait until a database has any position."""
        self._until(lambda: self.position(name).strip(b"0/\n") != b"", f"{name} does not come", interval)

    def position(self, name: str) -> bytes:
        """What ``NAME-pos`` says; empty where there is no such database yet."""
        try:
            return (self.mount / f"{name}-pos").read_bytes()
        except OSError:
            return b""

    def _until(self, done: Callable[[], bool], problem: str, interval: float = POLL) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not done():
            if self.process is None or self.process.poll() is not None:
                raise self._failure("ended by itself")
            if time.monotonic() > deadline:
                raise self._failure(f"{problem} within {START_LIMIT:.0f} s")
            time.sleep(interval)

    def _failure(self, problem: str) -> NodeFailed:
        return NodeFailed(f"{self.program.name} node {problem}; {self.log_end()}")

    def log_end(self) -> str:
        """For errors."""
        tail = (self.path / "log").read_text(errors="replace")[-2000:]
        return f"the log of {self.path.name} ends with:\n{tail}"

    def stop(self) -> None:
        """End it, in whatever state it is. No mount is left."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            print(f"{self.program.name}: killed, did not end within {STOP_LIMIT:.0f} s of SIGTERM", file=sys.stderr)
            process.kill()
            process.wait()
        if os.path.ismount(self.mount):
            subprocess.run(["fusermount3", "-u", "-z", str(self.mount)], check=False)

    def restart(self) -> None:
        """Stop it, and start it until it is ready."""
        self.stop()
        self.start()
        self.wait_ready()

    def remove(self) -> None:
        """End it and delete all that it has."""
        self.stop()
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def running(program: Program, path: Path, primary: Node | None = None, more: str = "") -> Iterator[Node]:
    """A node that is ready, gone afterwards with its files; arguments as for `Node`."""
    node = Node(program, path, primary, more=more)
    try:
        node.start()
        node.wait_ready()
        yield node
    finally:
        node.remove()
