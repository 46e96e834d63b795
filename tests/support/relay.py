"""A TCP relay between a client and a server of a test, which can be cut, slow, or fall silent."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Relay:
    """Listens on a port of its own and relays to another one of the loopback interface.

    Attributes:
        seen: everything that clients sent so far.
        rate: bytes a second that each connection may send, in pieces of a hundredth of that; None for no limit.
    """

    def __init__(self, target: int) -> None:
        self.seen = bytearray()
        self.rate: int | None = None
        self._target = target
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """Where it listens, for HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def cut(self) -> Iterator[None]:
        """A context in which connections are reset and refused."""
        self._stop_listening()
        self._hang_up()
        try:
            yield
        finally:
            self._listener = self._listen(self.port)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """A context in which connections are accepted and nothing passes."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    def close(self) -> None:
        """End all of it."""
        self._stop_listening()
        self._flowing.set()
        self._hang_up()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _stop_listening(self) -> None:
        # A thread that waits in accept keeps a closed socket alive.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._flowing.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server, self.seen)
        back.join()
        with self._lock:
            self._pairs.discard(pair)
        for one in pair:
            one.close()

    def _pump(self, source: socket.socket, sink: socket.socket, copy: bytearray | None = None) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16 if self.rate is None or copy is None else max(1, self.rate // 100)):
                if copy is not None:
                    copy += piece
                    if self.rate is not None:
                        time.sleep(len(piece) / self.rate)
                self._flowing.wait()
                sink.sendall(piece)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _hang_up(self) -> None:
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
