"""The node's side of its client process: calls for a mounted database, as coroutines."""

from __future__ import annotations

import array
import errno
import logging
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from inspect import isawaitable
from typing import Any, TypeVar

import trio

from litefs.live.messages import LENGTH, MAX_FILES, InlinePages, LTXPages, encode
from litefs.live.pageset import PageSet
from litefs.live.snapshot import Snapshot, Source

log = logging.getLogger(__name__)

T = TypeVar("T")

CHANNELS = 8  # calls under way at the same time
FILES_SIZE = socket.CMSG_SPACE(MAX_FILES * array.array("i").itemsize)
GRACE = 5.0  # seconds to end after its connections were closed


class _Channel:
    """One connection to the process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = trio.socket.from_stdlib_socket(sock)
        self._stream = trio.SocketStream(self._sock)

    async def send(self, message: tuple[Any, ...]) -> None:
        await self._stream.send_all(encode(message))

    def send_now(self, message: tuple[Any, ...]) -> None:
        """Send a small message without waiting. Raises `OSError` when there is no room for it."""
        data = encode(message)
        if os.write(self._sock.fileno(), data) != len(data):
            raise OSError(errno.EIO, "half a message was sent")

    async def receive(self) -> tuple[tuple[Any, ...], list[int]]:
        """A message and the files that came with it. Raises `EOFError` when the process has ended."""
        data, files = bytearray(), array.array("i")
        size = LENGTH.size
        body = False
        while True:
            while len(data) < size:
                chunk, ancillary, _, _ = await self._sock.recvmsg(min(size - len(data), 1 << 20), FILES_SIZE)
                for _, _, received in ancillary:
                    files.frombytes(received[: len(received) // files.itemsize * files.itemsize])
                if not chunk:
                    raise EOFError
                data += chunk
            if body:
                return pickle.loads(data), list(files)
            size, body = LENGTH.unpack(data)[0], True
            data.clear()

    def close(self) -> None:
        self._sock.close()


class ClientProcess:
    """The process, started when it is first needed and again after it died.

    Args:
        seen: called with (database name, TXID, covered) when a wal-index covers a watched transaction, and when a look
            at it shows, after a while, that it still does not.
    """

    def __init__(self, seen: Callable[[str, int, bool], None]) -> None:
        self._seen = seen
        self._process: subprocess.Popen[bytes] | None = None
        self._send_idle, self._idle = trio.open_memory_channel[_Channel](CHANNELS)
        self._watch: _Channel | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        """Of the process; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    # ---------------------------------------------------------------------------------------------- the process

    async def run(self) -> None:
        """Keep the process running and its reports coming, until cancelled or `stop` is called."""
        try:
            while not self._stopping:
                self._start()
                await self._listen()
                if not self._stopping:
                    log.error("the client process of the mount has ended, starting it again")
                    await self._end()
                    await trio.sleep(0.1)
        finally:
            await self._end()

    async def stop(self) -> None:
        """End the process for good: nothing of this node is on the mount afterwards."""
        self._stopping = True
        await self._end()

    def _start(self) -> None:
        pairs = [socket.socketpair() for _ in range(CHANNELS + 1)]
        theirs = [pair[1].fileno() for pair in pairs]
        arguments = [sys.executable, "-m", "litefs.live.worker", *map(str, theirs)]
        self._process = subprocess.Popen(
            arguments, pass_fds=theirs, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/"
        )
        for _, sock in pairs:
            sock.close()
        self._watch = _Channel(pairs[0][0])
        for sock, _ in pairs[1:]:
            self._send_idle.send_nowait(_Channel(sock))

    async def _end(self) -> None:
        """Close the connections and wait for the process, which may need answers from the mount to end."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        while True:
            try:
                self._idle.receive_nowait().close()
            except trio.WouldBlock:
                break
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(process.wait, GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                await trio.to_thread.run_sync(process.wait)

    async def _listen(self) -> None:
        watch = self._watch
        assert watch is not None
        try:
            while True:
                (name, txid, covered), _ = await watch.receive()
                self._seen(name, txid, covered)
        except (OSError, EOFError, trio.ClosedResourceError):
            return

    # ----------------------------------------------------------------------------------------------- the calls

    def watch(self, name: str, path: str, frame: int, salt: bytes, txid: int) -> None:
        """Report once the wal-index at `path` covers `frame` of the WAL with `salt`. Replaces the last order."""
        self._order(("watch", name, path, frame, salt, txid))

    def forget(self, name: str) -> None:
        """The wal-index is gone."""
        self._order(("forget", name))

    def _order(self, order: tuple[Any, ...]) -> None:
        if self._watch is None:
            return
        try:
            self._watch.send_now(order)
        except OSError as error:  # the next commit gives another one
            log.debug("cannot have a wal-index watched: %s", error)

    async def call(self, *message: Any, ask: Callable[[bytes], Any] | None = None) -> tuple[Any, list[int]]:
        """Make a call and wait for its result, and the files that come with it.

        Args:
            message: method and arguments.
            ask: answers the question whether to go on, while the locks are held; given the wal-index header. May be a
                coroutine function. What it raises ends the call with nothing done, and is raised here.

        Raises:
            OSError: also when the process ended in the middle; how far it came is not known.
        """
        if self._stopping:
            raise OSError(errno.EIO, "this node is leaving its mount")
        channel = await self._idle.receive()
        with trio.CancelScope(shield=True):  # what was begun is brought to its end
            try:
                result = await self._converse(channel, message, ask)
            except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
                channel.close()
                raise OSError(errno.EIO, "the client process of the mount has ended") from None
        self._send_idle.send_nowait(channel)
        kind, value, files = result
        if kind in ("failed", "refused"):
            raise value
        return value, files

    async def _converse(
        self, channel: _Channel, message: tuple[Any, ...], ask: Callable[[bytes], Any] | None
    ) -> tuple[str, Any, list[int]]:
        refusal: Exception | None = None
        await channel.send(message)
        while True:
            (kind, value), files = await channel.receive()
            if kind == "ask":
                refusal = await self._answer(channel, value, ask)
            elif kind == "aborted":
                return "refused", refusal, files
            else:
                return kind, value, files

    @staticmethod
    async def _answer(channel: _Channel, header: bytes, ask: Callable[[bytes], Any] | None) -> Exception | None:
        try:
            answer = ask(header) if ask is not None else None
            if isawaitable(answer):
                answer = await answer
        except Exception as error:
            await channel.send(("abort",))
            return error
        await channel.send(("go", answer))
        return None


class Client:
    """Calls for one mounted database.

    Args:
        process: makes them.
        path: of the database in the mount.
    """

    def __init__(self, process: ClientProcess, path: str) -> None:
        self._process = process
        self._path = path

    async def apply(
        self, changes: PageSet, *, deadline: float, ask: Callable[[bytes], str | Awaitable[str]] | None = None
    ) -> None:
        """See `LiveDatabase.apply`; `ask` is its `before`, and may say where the LTX file lies by now."""
        await self._process.call("apply", self._path, changes, ask is not None, deadline, ask=ask)

    async def install(self, size: int, *, deadline: float, ask: Callable[[bytes], str | Awaitable[str]]) -> bool:
        """See `LiveDatabase.install`; `ask` is its `before`."""
        done, _ = await self._process.call("install", self._path, size, deadline, ask=ask)
        return bool(done)

    async def snapshot(
        self, backing_db: str, backing_wal: str, *, note: Callable[[bytes], T], deadline: float
    ) -> RemoteSnapshot[T]:
        """See `LiveDatabase.snapshot`; `note` gets the wal-index header."""
        noted: list[T] = []
        value, files = await self._process.call(
            "snapshot", self._path, backing_db, backing_wal, deadline, ask=lambda header: noted.append(note(header))
        )
        number, page_size, commit, frames = value
        resources = ExitStack()
        for fd in files:
            resources.callback(os.close, fd)
        source = None
        if files:
            source = Source(self._path, page_size, files[0], resources, files[1] if len(files) > 1 else -1, frames)
        return RemoteSnapshot(noted[-1], page_size, commit, source, number)

    async def release(self, snapshot: RemoteSnapshot[Any]) -> None:
        """End a snapshot: the log may be folded again."""
        snapshot.close()
        await self._process.call("release", snapshot.number)

    async def hold(self, note: Callable[[bytes], None], *, deadline: float) -> None:
        """See `LiveDatabase.hold`; `note` is its `before`, and gets the wal-index header."""
        await self._process.call("hold", self._path, deadline, ask=note)

    async def unhold(self) -> None:
        """See `LiveDatabase.unhold`."""
        await self._process.call("unhold", self._path)

    async def checkpoint(self) -> None:
        """See `LiveDatabase.checkpoint`."""
        await self._process.call("checkpoint", self._path)

    async def settle(self, judge: Callable[[bytes], int | None], *, deadline: float) -> None:
        """See `LiveDatabase.settle`."""
        await self._process.call("settle", self._path, deadline, ask=judge)

    async def prime(self) -> None:
        """Read the WAL through the mount.

        The kernel splits a write that covers a page of its cache only in part, unless it has the whole page. WAL
        frames never fit pages, so each costs two requests instead of one, until the page has been read once.
        """
        await self._process.call("prime", self._path + "-wal")

    async def close(self, *, in_use: bool) -> None:
        """See `LiveDatabase.close`."""
        await self._process.call("close", self._path, in_use)


class RemoteSnapshot(Snapshot[T]):
    """A snapshot whose locks the client process holds, and whose files are open here."""

    def __init__(self, noted: T, page_size: int, commit: int, source: Source | None, number: int) -> None:
        super().__init__(noted, page_size, commit, source)
        self.number = number


__all__ = ["Client", "ClientProcess", "InlinePages", "LTXPages", "RemoteSnapshot"]
