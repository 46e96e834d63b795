"""Nodes as their users run them: the real command, a real mount, each in a directory of its own."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml

from litefs.ltx import Pos
from litefs.mount.kernel import mounted_type, unmount

from .netns import Host
from .programs import missing
from .waiting import LIMIT, wait_for

COMMAND = Path(sysconfig.get_path("scripts")) / "litefs"
READY = "waiting for signal or subprocess to exit"
STOP_LIMIT = 40.0  # seconds
_ERROR = re.compile(r"^.*(?:level=ERROR|Traceback \(most recent call last\)).*$", re.MULTILINE)


class Died(AssertionError):
    """The node ended before it was ready."""


_ports = list(range(10_240, 32_000))  # below those that Linux takes for outgoing connections: none of them comes first
random.Random().shuffle(_ports)
_next_port = itertools.cycle(_ports)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on; another one each time."""
    while True:
        port = next(_next_port)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Node:
    """One node with its configuration, data directory, mount and log.

    Args:
        directory: where all of that is.
        primary: the primary it follows; without one it is the primary itself.
        settings: sections of litefs.yml, laid over the default.
        host: where it lives, when not on this one.
        command: the program, when it is not ours.

    Attributes:
        expected: regular expressions of the errors that its log may hold.
    """

    def __init__(
        self,
        directory: Path,
        *,
        primary: Node | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        host: Host | None = None,
        command: str | os.PathLike[str] = COMMAND,
    ) -> None:
        self.directory = directory
        self.name = directory.name
        self.mount = directory / "mnt"
        self.data = directory / "data"
        self.log_file = directory / "log"
        self.host = host
        self.command = str(command)
        self.url = f"http://{host.address if host else '127.0.0.1'}:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None
        self.expected: list[str] = []
        self._log_start = 0
        self._primary = primary
        directory.mkdir(exist_ok=True)
        self.mount.mkdir(exist_ok=True)
        self.log_file.touch()
        self.configure(settings or {})

    def configure(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Write litefs.yml: these sections laid over the default."""
        leader = self._primary or self
        sections: dict[str, dict[str, Any]] = {
            "fuse": {"dir": str(self.mount)},
            "data": {"dir": str(self.data)},
            "http": {"addr": self.url.partition("://")[2]},
            "lease": {
                "type": "static",
                "hostname": leader.name,
                "advertise-url": leader.url,
                "candidate": self._primary is None,
                "reconnect-delay": "50ms",
            },
        }
        for name, section in settings.items():
            sections.setdefault(name, {}).update(section)
        self.configuration.write_text(yaml.safe_dump(sections))

    @property
    def configuration(self) -> Path:
        """Its litefs.yml."""
        return self.directory / "litefs.yml"

    # ---------------------------------------------------------------------------------------------------- life

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def spawn(self, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Node:
        """Start the process and wait for nothing."""
        assert not self.running
        self._log_start = self.log_file.stat().st_size
        command = [
            *(self.host.prefix if self.host else ()),
            *prefix,
            self.command,
            "mount",
            "-config",
            str(self.configuration),
        ]
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        return self

    def start(self, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Node:
        """Start the process and wait until the node is ready."""
        self.spawn(prefix=prefix, env=env)
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until it is primary, or has caught up with one."""
        wait_for(self._is_ready, f"ready node {self.name}: {self.log()[-2000:]}", LIMIT)

    def _is_ready(self) -> bool:
        if not self.running:
            raise Died(f"{self.name} has ended:\n{self.log()[-4000:]}")
        return READY in self.log()

    def kill(self) -> None:
        """End it without warning. The dead mount stays until the next start."""
        assert self.process is not None
        if self.running:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT)

    def stop(self) -> int:
        """End it in order; its exit code."""
        assert self.process is not None
        if self.running:
            os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(STOP_LIMIT)

    def destroy(self) -> None:
        """Leave no process and no mount behind, whatever state it is in."""
        if self.running:
            self.kill()
        if mounted_type(self.mount) is not None:
            unmount(self.mount)

    # ----------------------------------------------------------------------------------------------------- looking

    def log(self) -> str:
        """What it has logged since its last start."""
        with open(self.log_file, "rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def surprises(self) -> list[str]:
        """Errors in its log, of all its starts, that nobody expected."""
        found = dict.fromkeys(_ERROR.findall(self.log_file.read_text(errors="replace")))
        return [line for line in found if not any(re.search(wanted, line) for wanted in self.expected)]

    def path(self, name: str) -> str:
        """A database as its applications open it."""
        return str(self.mount / name)

    def files(self, name: str) -> Path:
        """Directory of a database's files behind the mount."""
        return self.data / "dbs" / name

    def pos(self, name: str) -> Pos:
        """Position of a database, as its applications read it."""
        return Pos.parse((self.mount / f"{name}-pos").read_text().strip())

    def wait_pos(self, name: str, pos: Pos, timeout: float = LIMIT) -> None:
        """Wait until a database is at a position."""
        wait_for(lambda: self.pos(name) == pos, f"position {pos} of {name} on {self.name}", timeout)

    # ------------------------------------------------------------------------------------------------------ asking

    def info(self, timeout: float = 5) -> dict[str, Any]:
        """What it says of itself. Raises OSError when it does not answer."""
        with urllib.request.urlopen(f"{self.url}/info", timeout=timeout) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    @property
    def is_primary(self) -> bool:
        """Whether it says that it is; not while it does not answer."""
        with suppress(OSError):
            return bool(self.info()["isPrimary"])
        return False

    def post(self, path: str, timeout: float = 30) -> None:
        """POST without a body. Raises OSError for anything but 200."""
        urllib.request.urlopen(urllib.request.Request(self.url + path, method="POST"), timeout=timeout).close()

    def export(self, name: str, timeout: float = 60) -> bytes:
        """A database, as its API gives it out."""
        with urllib.request.urlopen(f"{self.url}/export?name={name}", timeout=timeout) as answer:
            data: bytes = answer.read()
            return data


def need_command() -> None:
    """Skip the test where `litefs` is not installed; where CI is true, fail it."""
    if not COMMAND.exists():
        missing(f"the command is not installed: no {COMMAND}")


N = TypeVar("N", bound=Node)


@contextmanager
def gathered(nodes: list[N]) -> Iterator[None]:
    """None of the nodes that a test puts on the list is left behind.

    An error in the log of a node that the test did not expect fails the test.
    """
    need_command()
    yield
    for node in reversed(nodes):
        node.destroy()
    assert not [node.mount for node in nodes if mounted_type(node.mount)], "mounts are left behind"
    surprises = {node.name: node.surprises() for node in nodes}
    assert not any(surprises.values()), f"unexpected errors in the log: {surprises}"


def adopt(node: Node, data: Path) -> None:
    """Start from a copy of a data directory."""
    shutil.copytree(data, node.data)
