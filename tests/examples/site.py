"""An example on its two nodes, as `examples/two-nodes` starts it, and a browser."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sysconfig
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from litefs.mount.kernel import mounted_type, unmount
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
NODES = ("a", "b")
START_LIMIT = 60.0  # seconds
END_LIMIT = 40.0


def quiet_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on, and that no connection is given: some are bound late."""
    found: list[int] = []
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("all ports are taken")


class Browser:
    """Keeps cookies, sends forms, follows redirects."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
        )

    def get(self, url: str) -> str:
        with self._opener.open(url, timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    def post(self, url: str, **form: str) -> str:
        """The page that the browser shows in the end."""
        with self._opener.open(url, urllib.parse.urlencode(form).encode(), timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    def json(self, url: str) -> Any:
        return json.loads(self.get(url))


class Site:
    """Two nodes with an application each.

    Args:
        example: the name of its folder.
        folder: for everything that it writes.
        environment: laid over this process's.

    Attributes:
        api: URL of each node's API.
        web: URL of each node's proxy.
    """

    def __init__(self, example: str, folder: Path, environment: Mapping[str, str]) -> None:
        ports = quiet_ports(6)
        self.api = {"a": f"http://127.0.0.1:{ports[0]}", "b": f"http://127.0.0.1:{ports[3]}"}
        self.web = {"a": f"http://127.0.0.1:{ports[1]}", "b": f"http://127.0.0.1:{ports[4]}"}
        self._folder = folder
        self._browser = Browser()
        programs = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
        own = {"PATH": programs, "DEMO": str(folder), "PORTS": " ".join(map(str, ports)), "TTL": "60s", **environment}
        self._output = folder / "output"
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(
                [ROOT / "examples" / "two-nodes", example],
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Until both nodes serve the application."""
        for node in NODES:
            wait_for(partial(self._ready, node), f"ready node {node}:\n{self.log()}", START_LIMIT)

    def _ready(self, node: str) -> bool:
        assert self._process.poll() is None, f"it has ended:\n{self.log()}"
        return bool(self._browser.get(f"{self.api[node]}/readyz") and self._browser.get(self.web[node]))

    def primary(self) -> str:
        """The name of the node that is primary."""

        def look() -> str:
            for node in NODES:
                if self._browser.json(f"{self.api[node]}/info")["isPrimary"]:
                    return node
            return ""

        return wait_for(look, "primary")

    def switch(self) -> str:
        """Have the other node take over, as an operator would; its name."""
        node = next(node for node in NODES if node != self.primary())
        done = subprocess.run(
            [Path(sysconfig.get_path("scripts")) / "litefs", "promote", "-url", self.api[node]],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return node

    def log(self) -> str:
        """What everybody has said."""
        files = [self._output, *(self._folder / node / "log" for node in NODES)]
        return "\n".join(f"{file}:\n{file.read_text(errors='replace')[-4000:]}" for file in files if file.exists())

    def stop(self) -> int:
        """Ctrl-C, or what comes next to it; the exit code."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
        return self._process.wait(END_LIMIT)

    def destroy(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(END_LIMIT)
        for node in NODES:
            if mounted_type(self._folder / node / "mnt") is not None:
                unmount(self._folder / node / "mnt")
