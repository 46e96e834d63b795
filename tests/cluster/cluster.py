"""Several nodes around the lease of `examples/lease_file`, and writers on their mounts: real processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.support.nodes import Node
from tests.support.waiting import LIMIT, wait_for

ROOT = Path(__file__).parents[2]
WRITER = Path(__file__).with_name("writer.py")
LEASE = {"ttl": "2s", "skew": "200ms"}  # no shorter: a busy machine keeps a primary from renewing it for a second


class Member(Node):
    """A node that competes for the lease."""

    lease: dict[str, Any]

    def configure_lease(self, section: Mapping[str, Any]) -> None:
        """Lay more over its section of litefs.yml."""
        self.lease = self.lease | section
        self.configure({"lease": self.lease})

    def rows(self) -> list[int]:
        """Content of the table."""
        with closing(sqlite3.connect(self.path("db"), timeout=5)) as connection:
            return [row[0] for row in connection.execute("SELECT x FROM t ORDER BY x")]

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def destroy(self) -> None:
        with suppress(ProcessLookupError):
            self.resume()
        super().destroy()


Make = Callable[..., Member]


def member(directory: Path, name: str, **lease: Any) -> Member:
    """A node that is not started yet; `lease` is laid over its section of litefs.yml."""
    node = Member(directory / name)
    section: dict[str, Any] = {
        "type": "file",
        "hostname": name,
        "advertise-url": node.url,
        "candidate": True,
        "reconnect-delay": "50ms",
        "file": {"path": str(directory / "lease"), **LEASE},
    }
    lease["file"] = section["file"] | lease.get("file", {})
    node.lease = section
    node.configure_lease(lease)
    return node


def make_table(node: Member, journal: str = "wal") -> None:
    """The table that writers insert into."""
    with closing(sqlite3.connect(node.path("db"), isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
        connection.execute("CREATE TABLE t (x)")


class Writer:
    """A writer process; its report is read from a file."""

    def __init__(self, node: Member, *pragmas: str, first: int = 0) -> None:
        self._report = node.directory / f"writer-{first}-{os.urandom(4).hex()}"
        with open(self._report, "wb") as out:
            arguments = [sys.executable, str(WRITER), node.path("db"), str(first), *pragmas]
            self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=out)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _lines(self, kind: str) -> list[list[str]]:
        whole = self._report.read_text().rpartition("\n")[0]
        return [line.split(" ", 2)[1:] for line in whole.splitlines() if line.startswith(kind)]

    @property
    def acked(self) -> dict[int, float]:
        """When each row was acknowledged."""
        return {int(number): float(moment) for number, moment in self._lines("ack")}

    @property
    def errors(self) -> list[tuple[float, str]]:
        """When inserts failed, and why."""
        return [(float(moment), text) for moment, text in self._lines("error")]

    def wait_acked(self, count: int) -> None:
        """Wait until that many more rows are acknowledged."""
        goal = len(self.acked) + count
        wait_for(lambda: len(self.acked) >= goal, f"{count} more acknowledged rows: {self.errors[-3:]}")

    def stop(self) -> dict[int, float]:
        """End it; what was acknowledged."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        return self.acked


def wait_primary(nodes: list[Member], timeout: float = LIMIT) -> Member:
    """The one that is primary."""
    return wait_for(lambda: next((node for node in nodes if node.is_primary), None), "primary", timeout)


def wait_same(one: Member, other: Member, timeout: float = LIMIT) -> None:
    """Wait until both have the same rows at the same position."""
    wait_for(lambda: one.pos("db") == other.pos("db"), f"equal positions of {one.name} and {other.name}", timeout)
    assert one.rows() == other.rows()
