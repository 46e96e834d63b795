"""Plain non-blocking sockets under trio.

Trio's own streams take a lock and a checkpoint for each call; a request through the proxy is four calls. `receive`
always gives other tasks their turn, `send` only when it has to wait: so every loop over both does.
"""

from __future__ import annotations

import socket

from trio.lowlevel import wait_readable, wait_writable

HEAD = 16 << 10  # bytes per read where a head is expected
BODY = 256 << 10  # and in the middle of a body
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 9}  # seconds, seconds, probes: those of Go
TCP_CLOSE = 7  # state of a connection that the other end reset, or that no longer answers


async def receive(sock: socket.socket, size: int) -> bytes:
    """What has arrived, at most so many bytes; waits for some; empty at the end.  Raises OSError."""
    while True:
        await wait_readable(sock)
        try:
            return sock.recv(size)
        except BlockingIOError:
            continue


async def send(sock: socket.socket, data: bytes) -> None:
    """Send all of it, as fast as the other end takes it.  Raises OSError."""
    try:
        sent = sock.send(data)
    except BlockingIOError:
        sent = 0
    if sent == len(data):
        return
    view = memoryview(data)
    while sent < len(data):
        await wait_writable(sock)
        try:
            sent += sock.send(view[sent:])
        except BlockingIOError:
            continue


def prepare(sock: socket.socket) -> None:
    """Set the options of a connection: nothing is delayed, and a dead other end is noticed."""
    sock.setblocking(False)
    if sock.family == socket.AF_UNIX:
        return  # it has neither
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_reset(sock: socket.socket) -> bool:
    """Whether the other end is gone for good.  One that only sends no more is not: it may wait for the answer."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE


def has_ended(sock: socket.socket) -> bool:
    """Whether an idle connection was closed by the other end, or has something to say that nobody asked for."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
