"""What the proxy answers itself, worded as LiteFS does."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from litefs_proxy_fly.dates import Dates
from litefs_proxy_fly.heads import Request

_dates = Dates()


@dataclass(frozen=True, slots=True)
class Answer:
    """A response without the application.

    Args:
        status: its code.
        text: its body, a line's end excluded; empty for no body at all.
        fields: further header lines, each with its end.
        outcome: what it is counted as.
    """

    status: int
    text: str = ""
    fields: bytes = b""
    outcome: str = "answered"

    def encode(self, *, keep_alive: bool, head: bool = False, http10: bool = False, more: bytes = b"") -> bytes:
        """The bytes of it.

        Args:
            keep_alive: whether another request may come on the connection.
            head: whether it answers a HEAD request, and so has no body.
            http10: whether the client speaks HTTP/1.0.
            more: further header lines, each with its end.
        """
        body = f"{self.text}\n".encode() if self.text else b""
        lines = [
            b"HTTP/1.1 %d %b\r\n" % (self.status, HTTPStatus(self.status).phrase.encode()),
            b"Content-Type: text/plain; charset=utf-8\r\n" if body else b"",
            b"X-Content-Type-Options: nosniff\r\n" if self.status >= 400 else b"",
            self.fields,
            more,
            b"Date: %b\r\nContent-Length: %d\r\n" % (_dates.now(), len(body)),
            b""
            if keep_alive and not http10
            else b"Connection: keep-alive\r\n"
            if keep_alive
            else b"Connection: close\r\n",
            b"\r\n",
        ]
        return b"".join(lines) + (b"" if head else body)


HEALTHY = Answer(200, "OK", outcome="health")
LAGGING = Answer(503, "Replication lag exceeded", outcome="health")
STALE = Answer(504, "Proxy timeout", outcome="stale")
DIVERGED = Answer(504, "Proxy error: what this client has seen is not in the database any more", outcome="diverged")
NO_PRIMARY = Answer(503, "Proxy error: no primary available", outcome="no-primary")


def replay(hostname: str) -> Answer:
    """Fly's router is to send the request to that node."""
    return Answer(200, fields=b"Fly-Replay: instance=%b\r\n" % hostname.encode(), outcome="replayed")


def redirect(url: str, request: Request) -> Answer:
    """The client is to send the request to the primary's proxy itself."""
    return Answer(307, fields=b"Location: %b%b\r\n" % (url.rstrip("/").encode(), request.target), outcome="redirected")


def error(status: int, reason: str) -> Answer:
    """The request failed."""
    return Answer(status, f"Proxy error: {reason}", outcome="failed")
