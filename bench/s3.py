"""An S3 server for the measurements: versitygw, where VERSITYGW_BIN names it."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.nodes import NodeFailed, free_port

BUCKET = "bench"
KEYS = {"access-key-id": "bench", "secret-access-key": "bench-secret"}
START_LIMIT = 20.0  # seconds


@contextmanager
def running_s3(folder: Path) -> Iterator[Mapping[str, str] | None]:
    """The ``backup.s3`` section for a server over a folder; None where there is no program."""
    program = os.environ.get("VERSITYGW_BIN")
    if not program:
        yield None
        return
    (folder / "root" / BUCKET).mkdir(parents=True)
    (folder / "meta").mkdir()
    address = f"127.0.0.1:{free_port()}"
    command = [program, "--port", address, "--quiet", "posix", "--sidecar", str(folder / "meta"), str(folder / "root")]
    environment = {
        **os.environ,
        "ROOT_ACCESS_KEY": KEYS["access-key-id"],
        "ROOT_SECRET_KEY": KEYS["secret-access-key"],
    }
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        _until_it_answers(f"http://{address}")
        yield {"endpoint": f"http://{address}", "region": "us-east-1", **KEYS}
    finally:
        process.kill()
        process.wait()


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2)
        except urllib.error.HTTPError:
            return  # it asks who we are
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise NodeFailed("the S3 server does not answer")
