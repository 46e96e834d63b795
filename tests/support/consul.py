"""A real Consul agent: one server, reached by this machine only; in development mode, everything in memory, as a rule.

`scripts/consul` finds or fetches its program. Where there is none, tests skip with the reason, except in CI.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .netns import Host
from .nodes import free_port
from .programs import find_program
from .waiting import wait_for


def find_consul() -> str:
    """The program; see `find_program` for where there is none."""
    return find_program("Consul", "consul", "CONSUL_BIN", "scripts/consul", "consul/usr/bin/consul")


class Consul:
    """An agent.

    Args:
        program: the path of consul.
        folder: its working directory, with its log.
        options: added to its configuration, as Consul's own language writes them.
        host: where it lives, when not on this one.
        token: the ACL token of the requests that are made here.
        kept: whether it keeps what it stores on disk, for when it is killed and started again.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        options: str = "",
        host: Host | None = None,
        token: str = "",
        *,
        kept: bool = False,
    ) -> None:
        self.port = free_port()
        self._address = host.address if host else "127.0.0.1"
        self._prefix = list(host.prefix) if host else []
        self.url = f"http://{self._address}:{self.port}"
        self._program = program
        self._folder = folder
        self._options = options
        self._token = token
        self._ports = [f"-{name}-port={free_port()}" for name in ("server", "serf-lan", "serf-wan")]
        self._mode = ["-server", "-bootstrap-expect=1", f"-data-dir={folder / 'consul.data'}"] if kept else ["-dev"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Consul:
        """Start it, with what it has kept, if anything, and wait until it leads itself."""
        command = [*self._prefix, self._program, "agent", *self._mode, "-node=test"]
        command += [f"-bind={self._address}", f"-client={self._address}"]
        command += [f"-http-port={self.port}", "-dns-port=-1", "-grpc-port=-1", *self._ports, f"-hcl={self._options}"]
        with open(self._folder / "consul.log", "ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        wait_for(lambda: self.get("/v1/catalog/nodes"), "node in Consul's catalog")
        return self

    def stop(self) -> None:
        """Kill it; what it stored is gone, unless it is kept."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """A context in which it accepts connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # its threads go on for a moment
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    # --- what is in it

    def request(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The decoded answer; None for 404. Raises OSError."""
        headers = {"X-Consul-Token": self._token} if self._token else {}
        request = urllib.request.Request(f"{self.url}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def get(self, path: str) -> Any:
        """The decoded answer to GET; None for 404."""
        return self.request("GET", path)

    def entry(self, key: str) -> dict[str, Any] | None:
        """The KV entry, its value decoded."""
        found = self.get(f"/v1/kv/{key}")
        if not found:
            return None
        entry: dict[str, Any] = found[0]
        entry["Value"] = base64.b64decode(entry["Value"] or "")
        return entry

    def put(self, key: str, value: bytes) -> None:
        """Write an entry, as an operator would."""
        assert self.request("PUT", f"/v1/kv/{key}", value) is True

    def delete(self, key: str) -> None:
        """Delete an entry."""
        self.request("DELETE", f"/v1/kv/{key}")

    def session(self, key: str) -> dict[str, Any] | None:
        """The session that locks a key."""
        entry = self.entry(key)
        found = [one for one in self.sessions() if entry and one["ID"] == entry.get("Session")]
        return found[0] if found else None

    def sessions(self) -> list[dict[str, Any]]:
        """All sessions."""
        return self.get("/v1/session/list") or []

    def destroy(self, session: str) -> None:
        """End a session."""
        assert self.request("PUT", f"/v1/session/destroy/{session}") is True


@contextmanager
def running_consul(
    folder: Path,
    options: str = 'session_ttl_min = "1s"',
    host: Host | None = None,
    token: str = "",
    *,
    kept: bool = False,
) -> Iterator[Consul]:
    """An agent for the length of a context; by default one that takes a TTL of a second."""
    consul = Consul(find_consul(), folder, options, host, token, kept=kept)
    try:
        yield consul.start()
    finally:
        consul.stop()
