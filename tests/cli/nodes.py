"""Nodes that answer what a test tells them to: `GET /status`, `GET /info`, `POST /promote`, `POST /demote`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]


class FakeNode:
    """A node on a port of its own.

    Attributes:
        status: what it says of itself; None for a node of LiteFS, which has no such path.
        requests: what it was asked: method, path with query, and the Authorization header.
        on: called for requests that change something, by path.
    """

    def __init__(self, hostname: str, number: int, role: str = "replica", **more: Any) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                outer.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
                code, body = outer.answer(self.command, self.path)
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.requests: list[tuple[str, str, str]] = []
        self.on: dict[str, Callable[[dict[str, list[str]]], tuple[int, bytes]]] = {}
        self.hostname = hostname
        self.id = f"{number:016X}"
        self.status: Json | None = {
            "id": self.id,
            "hostname": hostname,
            "advertiseURL": self.url,
            "version": "0.1.0",
            "clusterID": "LFSC0123456789ABCDEF",
            "role": role,
            "candidate": True,
            "ready": True,
            "reason": "",
            "primary": None,
            "lagMs": 0 if role == "primary" else 12,
            "leaseRemainingMs": None,
            "leaseType": "consul",
            "databases": {},
            "members": [],
            **more,
        }
        self.info: Json = {"isPrimary": role == "primary", "candidate": True, "path": "/x", "primary": {"hostname": ""}}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        parts = urlsplit(path)
        if method == "POST" and parts.path in self.on:
            return self.on[parts.path](parse_qs(parts.query))
        if parts.path == "/status" and self.status is not None:
            return 200, json.dumps(self.status).encode()
        if parts.path == "/info":
            return 200, json.dumps(self.info).encode()
        return 404, b"404 page not found\n"

    def as_member(self) -> Json:
        """How others know it."""
        return {
            "id": self.id,
            "hostname": self.hostname,
            "advertiseURL": self.url,
            "candidate": True,
            "connected": True,
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def database(txid: int, checksum: int = 1, pages: int | None = 12, **more: Any) -> Json:
    """What a node says of a database."""
    return {
        "txid": f"{txid:016x}",
        "checksum": f"{checksum:016x}",
        "published": f"{txid:016x}",
        "pageSize": 4096,
        "pages": pages,
        "halted": False,
        **more,
    }
