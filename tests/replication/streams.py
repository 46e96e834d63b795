"""What the tests of streams share: reading frames from a server, a client without a network, the virtual clock."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from litefs import ltx
from litefs.replication.frames import FrameParser, LTXData, LTXEnd, LTXStart
from litefs.replication.server import PeerStream
from tests.support import virtualtime


def run(test: Callable[[], Awaitable[None]], *, real_time: bool = False) -> None:
    """Run a test under the virtual clock, or in real time where sockets take part."""

    async def limited() -> None:
        with trio.fail_after(60):
            await test()

    if real_time:
        trio.run(limited)
    else:
        virtualtime.run(limited, threshold=0.02)


class File(bytes):
    """An LTX file that came over a stream."""

    db: str

    @property
    def info(self) -> tuple[str, int, int]:
        """Database, min and max TXID; verifies the file."""
        header, _ = ltx.verify(io.BytesIO(self))
        return self.db, header.min_txid, header.max_txid


class Frames:
    """Frames of a stream, one by one, LTX files put together."""

    def __init__(self, stream: PeerStream) -> None:
        self.stream = stream
        self._parser = FrameParser()
        self._found: list[Any] = []

    async def next(self) -> Any:
        """The next frame or file."""
        parts: list[Any] = []
        while True:
            while not self._found:
                self._found += self._parser.feed(await self.stream.__anext__())
            frame = self._found.pop(0)
            if isinstance(frame, LTXStart):
                parts = [frame.name]
            elif isinstance(frame, LTXData):
                parts.append(bytes(frame.data))
            elif isinstance(frame, LTXEnd):
                file = File(b"".join(parts[1:]))
                file.db = parts[0]
                return file
            else:
                return frame

    async def until(self, *kinds: type) -> list[Any]:
        """Frames up to and including the first of these kinds."""
        found = [await self.next()]
        while not isinstance(found[-1], kinds):
            found.append(await self.next())
        return found


class Recorded:
    """A response whose body is known."""

    status = 200

    def __init__(self, body: bytes, step: int = 1000) -> None:
        self.headers: dict[str, str] = {}
        self._pieces = [body[at : at + step] for at in range(0, len(body), step)]

    async def receive(self) -> bytes:
        """The next piece."""
        await trio.lowlevel.checkpoint()
        return self._pieces.pop(0) if self._pieces else b""


class Watch:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.ready = False
        self.heartbeats: list[int] = []
        self.beat = trio.Event()

    def caught_up(self) -> None:
        """Remembers."""
        self.ready = True

    def heartbeat(self, timestamp_ms: int) -> None:
        """Remembers."""
        self.heartbeats.append(timestamp_ms)
        self.beat.set()
        self.beat = trio.Event()
