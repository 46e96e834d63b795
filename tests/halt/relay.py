"""A TCP relay between a replica and its primary that loses what the test wants it to lose."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Relay:
    """Listens on a port of the loopback interface.

    Attributes:
        lose_answers: number of ``/tx`` requests whose answer is cut off, although the primary gets the request.
        lose_requests: number of ``/tx`` requests that are cut off before the primary gets them.
        lost: set when one of these was.
        seen: the first line of each request.
    """

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("http://").split(":")
        self._target = host, int(port)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.lose_answers = self.lose_requests = 0
        self.lost = threading.Event()
        self.seen: list[bytes] = []
        self._open: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and every new one."""
        self._cut = True
        for sock in list(self._open):
            _close(sock)

    def mend(self) -> None:
        """Forward again."""
        self._cut = False
        self._flowing.set()

    def hold(self) -> None:
        """Forward nothing until `mend`, and break nothing."""
        self._flowing.clear()

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self.cut()
        self._flowing.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._cut:
            _close(client)
            return
        with contextlib.suppress(OSError):
            first = client.recv(1 << 16)
            self.seen.append(first.split(b"\r\n", 1)[0])
            is_tx = first.startswith(b"POST /tx")
            if is_tx and self.lose_requests:
                self.lose_requests -= 1
                self.lost.set()
                _close(client)
                return
            server = socket.create_connection(self._target)
            self._open |= {client, server}
            server.sendall(first)
            lose = is_tx and self.lose_answers > 0
            self.lose_answers -= lose
            threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
            if lose:
                server.recv(1 << 16)  # the primary has done it
                self.lost.set()
                _close(client)
                _close(server)
                return
            self._copy(server, client)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flowing.wait()
                target.sendall(data)
        _close(source)
        _close(target)
        self._open -= {source, target}


def _close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
