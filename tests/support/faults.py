"""An HTTP server in front of another one, that passes requests on, or answers as a server in trouble does."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request instead of an answer.

    Args:
        status, body: the answer that is given, without asking the server.
        cut: with no status: pass the server's answer on, but only so much of its body, and hang up.
        lose: pass the request on, and hang up instead of answering.
    """

    status: int = 0
    body: str = ""
    cut: int | None = None
    lose: bool = False


class FaultyFront:
    """Listens on a port of its own.

    Attributes:
        fault: asked with the method and the path of each request; None passes it on.
        requests: those that have come, in order.
    """

    def __init__(self, port: int) -> None:
        self.fault: Callable[[str, str], Fault | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                front.requests.append((self.command, self.path))
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                fault = front.fault(self.command, self.path)
                if fault is not None and fault.status:
                    self._answer(fault.status, {}, fault.body.encode())
                    return
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request(self.command, self.path, body, dict(self.headers))
                found = connection.getresponse()
                data = found.read()
                connection.close()
                if fault is not None and fault.lose:
                    self.close_connection = True
                    return
                self._answer(found.status, dict(found.getheaders()), data, fault.cut if fault else None)

            def _answer(self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", str(len(data))) if self.command == "HEAD" else str(len(data))
                self.send_header("content-length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data if cut is None else data[:cut])
                if cut is not None and cut < len(data):
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[FaultyFront]:
        """For the length of a context."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def times(count: int, fault: Fault, *, method: str = "", part: str = "") -> Callable[[str, str], Fault | None]:
    """A fault of the first so many requests, of those with that method and with that in their path."""
    left = [count]

    def decide(asked: str, path: str) -> Fault | None:
        if left[0] and method in ("", asked) and part in path:
            left[0] -= 1
            return fault
        return None

    return decide
