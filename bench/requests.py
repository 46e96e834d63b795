"""An application and its clients for `bench.rows.proxy`, each in a process of its own, as cheap as Python allows."""

from __future__ import annotations

import select
import socket
import sys
import time

_BODY = b"a=1"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
_RECEIVE = 1 << 16


def answers(port: int) -> None:
    """Answer every request at once, until standard input ends."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                poll.register(client, select.EPOLLIN)
                clients[client.fileno()] = client
            elif fd == sys.stdin.fileno():
                return
            elif not _answer(clients[fd]):
                poll.unregister(fd)
                clients.pop(fd).close()


def _answer(client: socket.socket) -> bool:
    """Whether the client is still there."""
    try:
        data = client.recv(_RECEIVE)
        client.send(_ANSWER * data.count(b"\r\n\r\n"))
    except ConnectionError:
        return False
    return bool(data)


def requests(port: int, method: str, connections: int, seconds: float) -> tuple[int, float, float]:
    """Keep that many requests under way; how many were answered, in how many seconds, and their 99th percentile."""
    body = _BODY if method == "POST" else b""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n{length}\r\n"
    request = head.encode() + body
    poll = select.epoll()
    socks, began, rest = {}, {}, {}
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(sock, select.EPOLLIN)
        fd = sock.fileno()
        socks[fd], began[fd], rest[fd] = sock, time.perf_counter(), b""
        sock.send(request)
    took: list[float] = []
    begin = now = time.perf_counter()
    while now - begin < seconds:
        for fd, _ in poll.poll():
            data = rest[fd] + socks[fd].recv(_RECEIVE)
            now = time.perf_counter()
            if not data.endswith(b"\r\n\r\nhello"):
                if not data or len(data) > 1000:
                    raise SystemExit(f"unexpected answer: {data!r}")
                rest[fd] = data
                continue
            took.append(now - began[fd])
            rest[fd], began[fd] = b"", now
            socks[fd].send(request)
    return len(took), now - begin, sorted(took)[len(took) * 99 // 100]
