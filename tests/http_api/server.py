"""A served application in a thread, for tests that speak to it as any client would."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import trio

from litefs.http.address import bind
from litefs.http.serve import serve


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait for something that happens in the server's thread."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)


class Server:
    """Serves an application until stopped. `call` runs a function in its event loop."""

    def __init__(
        self,
        app: Any,
        grace: float = 1.0,
        closing: trio.Event | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self._tls = tls
        self._socket = bind(f"127.0.0.1:{port}")
        self.port: int = self._socket.getsockname()[1]
        self._app, self._grace, self._closing = app, grace, closing
        self._started = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(5)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self.error = error

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)
            await serve(self._app, [self._socket], self._stop.wait, tls=self._tls, grace=self._grace)

    async def _tell(self) -> None:
        self._started.set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return trio.from_thread.run_sync(function, *args, trio_token=self._token)

    def stop(self) -> None:
        """Stop and wait for the end; AssertionError if it does not come, or an error that came with it."""
        if self._thread.is_alive():
            if self._closing is not None:
                self.call(self._closing.set)
            self.call(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server does not stop"
        if self.error is not None:
            raise self.error

    def http1(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=10, **options)

    def h2c(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, http1=False, http2=True, trust_env=False, timeout=10, **options)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


class RawH2:
    """An HTTP/2 client that grants exactly the windows it is told to: none beyond the initial 65,535 bytes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: list[h2.events.Event] = []
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> RawH2:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(self.h2.data_to_send())

    def request(self, method: str, path: str, *, end: bool = True, headers: Any = ()) -> int:
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "x")]
        self.h2.send_headers(stream, [*pseudo, *headers], end_stream=end)
        self.flush()
        return stream

    def send(self, stream: int, data: bytes) -> int:
        """Send what the windows allow of the data; returns how much that was."""
        size = min(len(data), self.h2.local_flow_control_window(stream))
        for at in range(0, size, self.h2.max_outbound_frame_size):
            self.h2.send_data(stream, data[at : min(size, at + self.h2.max_outbound_frame_size)])
        self.flush()
        return size

    def until(self, condition: Callable[[], object]) -> None:
        """Receive until the condition holds."""
        while not condition():
            data = self._socket.recv(1 << 16)
            assert data, "the server closed the connection"
            self.events += self.h2.receive_data(data)
            self.flush()

    def size(self, stream: int) -> int:
        """Bytes of the response so far."""
        found = [e for e in self.events if isinstance(e, h2.events.DataReceived) and e.stream_id == stream]
        return sum(len(event.data or b"") for event in found)

    def ended(self, stream: int, kind: type[h2.events.Event]) -> bool:
        """Whether the stream has had an event of the kind."""
        return any(isinstance(e, kind) and getattr(e, "stream_id", None) == stream for e in self.events)
