"""nginx as an application that answers at once, and wrk as its clients: both from a distribution's packages."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.nodes import POLL, START_LIMIT, NodeFailed

_NGINX = """\
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 "hello"; }}
    }}
}}
"""
_WRK = """\
wrk.method = "{method}"
{body}
done = function(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    local p99 = latency:percentile(99)
    io.write(string.format("\\nfound %d %d %f %d\\n", summary.requests, summary.duration, p99, failed))
end
"""


def check() -> None:
    """Raises NodeFailed where one of the two is not installed."""
    if missing := [name for name in ("wrk", "nginx") if program(name) is None]:
        raise NodeFailed(f"not installed: {' and '.join(missing)}")


def program(name: str) -> str | None:
    """Where it is: Debian's nginx is in a directory that is not on everyone's path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(directory: Path, port: int) -> Iterator[None]:
    """One process of it."""
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=directory, port=port))
    process = subprocess.Popen(
        [program("nginx") or "nginx", "-p", directory, "-e", "stderr", "-c", config],
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait(process, port)
        yield
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise NodeFailed("nginx does not start, see above") from None
            time.sleep(POLL)


def wrk(directory: Path, port: int, method: str, connections: int, seconds: float) -> tuple[int, float, float]:
    """Keep that many requests under way; how many were answered, in how many seconds, and their 99th percentile.

    Raises NodeFailed where one was not answered with success.
    """
    script = directory / "wrk.lua"
    script.write_text(_WRK.format(method=method, body='wrk.body = "a=1"' if method == "POST" else ""))
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", script, f"http://127.0.0.1:{port}/"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    _, found, numbers = done.stdout.rpartition("found ")
    if not found:
        raise NodeFailed(f"wrk: {done.stdout}{done.stderr}")
    count, duration, p99, failed = map(float, numbers.split())
    if failed or not count:
        raise NodeFailed(f"wrk: {failed:.0f} of {count:.0f} requests failed")
    return int(count), duration / 1e6, p99 / 1e6
