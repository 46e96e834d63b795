"""A real S3 server: versitygw over a folder, reached by this machine only.

`scripts/s3` finds or builds its program. Where there is none, tests skip with the reason, except in CI.
"""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .nodes import free_port
from .programs import find_program
from .waiting import wait_for

KEY, SECRET, BUCKET = "test-key", "test-secret-0123456789", "bucket"


class S3Server:
    """A server with one bucket, `BUCKET`."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "root" / BUCKET).mkdir(parents=True)
        (folder / "meta").mkdir()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["--port", f"127.0.0.1:{self.port}", "--quiet"]
        place = ["posix", "--sidecar", str(self._folder / "meta"), str(self._folder / "root")]
        command = [self._program, *options, *place]
        environment = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self._folder
            )
        wait_for(self._answers, f"answer of {self.url}: {(self._folder / 'log').read_text()[-500:]}")

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=2)
        except urllib.error.HTTPError:
            return True  # it asks who we are
        return True

    def kill(self) -> None:
        """End it without warning."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def section(self, **more: str) -> dict[str, str]:
        """The ``backup.s3`` section for it."""
        keys = {"access-key-id": KEY, "secret-access-key": SECRET}
        return {"endpoint": self.url, "region": "us-east-1", **keys, **more}


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """A server that is gone afterwards."""
    server = S3Server(find_program("S3 server", "versitygw", "VERSITYGW_BIN", "scripts/s3", "s3/versitygw"), folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
