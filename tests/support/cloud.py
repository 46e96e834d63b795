"""A server for backups: the real ``litefs cloud serve`` on a folder."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .nodes import COMMAND, free_port, need_command
from .waiting import wait_for

if TYPE_CHECKING:
    from litefs_cloud_server.tokens import Tokens

_tests = itertools.count(1)


class CloudServer:
    """The server.

    Attributes:
        folder: where it keeps everything.
        log: its log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cloud"
        self.log = folder / "server.log"
        self.url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._test = 0
        self.log.touch()

    def start(self) -> None:
        """Start it and wait until it listens."""
        ready = self._started()
        command = [str(COMMAND), "cloud", "serve", "-dir", str(self.folder), "-addr", self.url.removeprefix("http://")]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: self._started() > ready, "a server that listens")

    def _started(self) -> int:
        return len(re.findall("listening on", self.log.read_text()))

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, number)
        return self._process.wait(20)

    def begin_test(self) -> CloudServer:
        """The names of clusters mean other clusters from now on."""
        self._test = next(_tests)
        return self

    def cluster(self, name: str) -> str:
        """What a cluster of this test is called."""
        return f"{name}-{self._test}"

    def litefs(self, *words: str) -> str:
        """Run ``litefs cloud ...`` on its folder; what it printed."""
        command = [str(COMMAND), "cloud", *words, "-dir", str(self.folder)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def token(self, cluster: str, *, read_only: bool = False) -> str:
        """A new token for a cluster of this test, made without a process of its own: there are many."""
        return self._tokens().create(self.cluster(cluster), read_only=read_only)

    def manager(self, *, read_only: bool = False) -> str:
        """A new token for all clusters."""
        return self._tokens().create("*", read_only=read_only)

    def _tokens(self) -> Tokens:
        from litefs_backup_store.folder import FolderObjects
        from litefs_cloud_server.tokens import Tokens

        return Tokens(FolderObjects(self.folder))


@contextmanager
def running_cloud(folder: Path) -> Iterator[CloudServer]:
    """A server that is gone afterwards. An error of its own in its log fails the test."""
    need_command()
    server = CloudServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.end(signal.SIGKILL)
    text = server.log.read_text()
    assert "Traceback" not in text, text
