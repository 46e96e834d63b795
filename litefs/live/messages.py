"""What the node and its client process say to each other: pickled tuples behind a length, and open files.

Both ends are the same program on the same machine, joined by socket pairs that nobody else can reach.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from litefs import ltx

LENGTH = struct.Struct("<I")
MAX_FILES = 2


def encode(message: tuple[Any, ...]) -> bytes:
    """Bytes of one message."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def send(sock: socket.socket, message: tuple[Any, ...], files: Sequence[int] = ()) -> None:
    """Send one message, and open files with it. Blocking."""
    data = encode(message)
    if files:
        sent = socket.send_fds(sock, [data], files)
        data = data[sent:]
    sock.sendall(data)


def receive(sock: socket.socket) -> tuple[Any, ...] | None:
    """The next message, None at the end. Blocking."""
    head = _receive_exactly(sock, LENGTH.size)
    if head is None:
        return None
    body = _receive_exactly(sock, LENGTH.unpack(head)[0])
    return None if body is None else pickle.loads(body)


def _receive_exactly(sock: socket.socket, size: int) -> bytes | None:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while len(view):
        try:
            count = sock.recv_into(view)
        except ConnectionResetError:  # the node was killed before it had read all of our answers
            count = 0
        if count == 0:
            return None
        view = view[count:]
    return bytes(buffer)


class InlinePages:
    """Pages of a small transaction, sent along."""

    def __init__(self, pages: Sequence[tuple[int, bytes]]) -> None:
        self._pages = pages

    def __call__(self) -> Iterator[tuple[int, bytes]]:
        return iter(self._pages)


class LTXPages:
    """Pages of an LTX file.

    Attributes:
        path: of the file; it may be renamed before it is read.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> Iterator[tuple[int, bytes]]:
        with open(self.path, "rb") as file:
            yield from ltx.Decoder(file, name=self.path)
