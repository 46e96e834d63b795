"""The process that is a SQLite client of the mount, on behalf of the node that serves it.

The node itself must never touch its own mount: when it is killed, the kernel waits for the answer to a request of
one of its threads, or to the write-back of its shared mapping of a wal-index, and nobody is left to answer. The node
would never end, and its mount neither. Here the end of the node ends the mount, and with it whatever waits here.

Run as ``python -m litefs.live.worker WATCH CALL...`` with descriptors of connected sockets: one for watching
wal-indexes, and one for each call that may be under way at the same time. Ends when the node does.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from litefs.errors import LitefsError
from litefs.live import LiveDatabase, PageSet, Snapshot
from litefs.live.indexwatch import IndexWatch
from litefs.live.messages import LTXPages, receive, send

PIECE = 1 << 20  # bytes read at once


class _Aborted(Exception):
    """The node answered a question with an error: nothing may be changed. It keeps the error itself."""


def _send(sock: socket.socket, message: tuple[Any, ...], files: Sequence[int] = ()) -> None:
    try:
        send(sock, message, files)
    except OSError:  # the node was killed
        os._exit(0)


class Worker:
    """The databases that are open here, and the calls that come in for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._databases: dict[str, LiveDatabase] = {}
        self._snapshots: dict[int, Snapshot[None]] = {}
        self._last_snapshot = 0

    def serve(self, sock: socket.socket) -> None:
        """Answer calls on one connection, one after the other, until the node ends."""
        while (call := receive(sock)) is not None:
            method, *arguments = call
            files: list[int] = []
            try:
                reply = ("done", getattr(self, f"do_{method}")(partial(self._ask, sock), files, *arguments))
            except _Aborted:
                reply = ("aborted", None)
            except Exception as error:
                known = isinstance(error, (LitefsError, OSError))
                reply = ("failed", error if known else OSError(errno.EIO, repr(error)))
            _send(sock, reply, files)
        os._exit(0)

    @staticmethod
    def _ask(sock: socket.socket, database: LiveDatabase) -> Any:
        """Let the node have its say while the locks are held."""
        _send(sock, ("ask", database.index_header()))
        answer = receive(sock)
        if answer is None:
            os._exit(0)
        if answer[0] == "abort":
            raise _Aborted
        return answer[1]

    def _database(self, path: str) -> LiveDatabase:
        with self._lock:
            found = self._databases.get(path)
            if found is None:
                found = self._databases[path] = LiveDatabase(path)
            return found

    # --------------------------------------------------------------------------------------------------- calls

    def do_apply(
        self,
        ask: Callable[[LiveDatabase], Any],
        files: list[int],
        path: str,
        changes: PageSet,
        asks: bool,
        deadline: float,
    ) -> None:
        """Make the database equal to a page set; ask before the first write, where that is wanted."""
        database = self._database(path)

        def before() -> None:
            if asks:
                placed = ask(database)
                if placed is not None and isinstance(changes.pages, LTXPages):
                    changes.pages.path = placed

        database.apply(changes, before=before, deadline=deadline)

    def do_install(
        self, ask: Callable[[LiveDatabase], Any], files: list[int], path: str, size: int, deadline: float
    ) -> bool:
        """Let the node put a file in the place of an empty one; whether it could be done."""
        database = self._database(path)
        return database.install(size, before=lambda: ask(database), deadline=deadline)

    def do_snapshot(
        self, ask: Callable[[LiveDatabase], Any], files: list[int], path: str, backing: str, wal: str, deadline: float
    ) -> tuple[int, int, int, dict[int, int]]:
        """Begin a snapshot: its number, page size, size in pages, frames in the log; with it go the open files."""
        database = self._database(path)
        snapshot = database.snapshot(backing, wal, lambda: ask(database), deadline)
        with self._lock:
            self._last_snapshot += 1
            number = self._last_snapshot
            self._snapshots[number] = snapshot
        source = snapshot.source
        if source is None:
            return number, 0, 0, {}
        files += [source.database] if source.log < 0 else [source.database, source.log]
        return number, snapshot.page_size, snapshot.commit, dict(source.frames)

    def do_release(self, ask: object, files: list[int], number: int) -> None:
        """End a snapshot."""
        with self._lock:
            snapshot = self._snapshots.pop(number, None)
        if snapshot is not None:
            snapshot.close()

    def do_hold(self, ask: Callable[[LiveDatabase], Any], files: list[int], path: str, deadline: float) -> None:
        """Keep all other writers out of a database; the node is asked while the lock is held."""
        database = self._database(path)
        database.hold(lambda: ask(database), deadline)

    def do_unhold(self, ask: object, files: list[int], path: str) -> None:
        """Let other writers go on."""
        self._database(path).unhold()

    def do_settle(self, ask: Callable[[LiveDatabase], Any], files: list[int], path: str, deadline: float) -> None:
        """Settle what a dead writer left: the node judges."""
        database = self._database(path)
        database.settle(lambda header: ask(database), deadline)

    def do_checkpoint(self, ask: object, files: list[int], path: str) -> None:
        """Fold the log into the database file as far as readers allow."""
        self._database(path).checkpoint()

    def do_prime(self, ask: object, files: list[int], path: str) -> None:
        """Read a file into the kernel's cache."""
        with open(path, "rb", buffering=0) as file:
            while file.read(PIECE):
                pass

    def do_close(self, ask: object, files: list[int], path: str, in_use: bool) -> None:
        """Close a database."""
        with self._lock:
            database = self._databases.pop(path, None)
        if database is not None:
            database.close(in_use=in_use)


def main(arguments: list[str]) -> None:
    """Serve until the node ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the node says when
    sockets = [socket.socket(fileno=int(text)) for text in arguments]
    worker = Worker()
    for sock in sockets[1:]:
        threading.Thread(target=worker.serve, args=(sock,), daemon=True).start()
    with suppress(BrokenPipeError):  # the node has ended, and will not hear what was seen
        IndexWatch(sockets[0]).run()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
