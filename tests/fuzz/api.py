"""Any bytes at the port of the HTTP API: it answers or hangs up, and answers the next one as ever."""

from __future__ import annotations

import atexit
import functools
import shutil
import socket
import tempfile
from pathlib import Path

from litefs.http.app import build
from tests.http_api.fakes import FakeNode
from tests.http_api.server import Server

PATIENCE = 5.0  # seconds
GOOD = b"GET /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@functools.cache
def port() -> int:
    """A server in a thread of its own, for the rest of the process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    node = FakeNode(folder)
    server = Server(build(node.services), closing=node.services.closing)

    def end() -> None:
        server.stop()
        shutil.rmtree(folder)

    atexit.register(end)
    return server.port


def send(data: bytes) -> bytes:
    """What comes back for some bytes, after which nothing more is sent."""
    with socket.create_connection(("127.0.0.1", port()), PATIENCE) as client:
        found = b""
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                found += piece
                if len(found) > 1 << 20:
                    break  # `/debug/rand` has no end
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            pass  # a stream of the fake, which writes nothing: a real one notices with its next heartbeat
        return found


def check(data: bytes) -> None:
    """Send any bytes, and then a request that makes sense."""
    send(data)
    assert send(GOOD).startswith(b"HTTP/1.1 200")
