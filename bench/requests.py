"""An application with big bodies, and clients, for `bench.rows.proxy`: each in a process of its own."""

from __future__ import annotations

import resource
import select
import socket
import sys
import time
from threading import Thread

from bench.processes import resident

_PIECE = bytes(1 << 20)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def bodies(port: int, size: int) -> None:
    """Answer GET with so many bytes, take what POST brings; until standard input ends."""
    listener = socket.create_server(("127.0.0.1", port))
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        client, _ = listener.accept()
        Thread(target=_serve, args=(client, size), daemon=True).start()


def _serve(client: socket.socket, size: int) -> None:
    with client:
        while head := _head(client):
            if head.startswith(b"GET"):
                client.sendall(_OK % size)
                _send(client, size)
            else:
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                _receive(client, length - len(head.partition(b"\r\n\r\n")[2]))
                client.sendall(_OK % 0)


def _head(client: socket.socket) -> bytes:
    """The head of the next message, and what has come with it of the body; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(1 << 16)
        if not piece:
            return b""
        data += piece
    return data


def _send(sock: socket.socket, size: int) -> None:
    for at in range(0, size, len(_PIECE)):
        sock.sendall(_PIECE[: size - at] if size - at < len(_PIECE) else _PIECE)


def _receive(sock: socket.socket, size: int) -> None:
    buffer = bytearray(1 << 20)
    while size > 0:
        count = sock.recv_into(buffer, min(size, len(buffer)))
        if not count:
            raise SystemExit(f"{size} bytes of a body are missing")
        size -= count


def transfer(port: int, method: str, size: int) -> float:
    """Move one body of so many bytes: up with POST, down with GET; seconds."""
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        length = size if method == "POST" else 0
        sock.sendall(f"{method} / HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n".encode())
        _send(sock, length)
        head = _head(sock)
        if b" 200 OK\r\n" not in head:
            raise SystemExit(f"unexpected answer: {head[:200]!r}")
        if method == "GET":
            _receive(sock, size - len(head.partition(b"\r\n\r\n")[2]))
        return time.perf_counter() - begin


def idle(port: int, connections: int, pid: int) -> int:
    """Open that many connections with one request each, and keep them; bytes resident in a process then."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    socks = []
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
        if b" 200 OK\r\n" not in _head(sock):
            raise SystemExit("unexpected answer")
        socks.append(sock)
    if select.select([socks[0]], [], [], 0)[0]:
        raise SystemExit("the first connection did not last that long")
    return resident(pid)
