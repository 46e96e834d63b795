"""An application on a replica, in a process of its own: takes the halt lock as client libraries do, and writes.

Run as a script it does what it is told on standard input, a line of JSON each: the name of a method of `Application`
and its arguments. Imported, `Remote` starts one. A process of its own because a commit may wait in the kernel for the
primary, and because closing any descriptor of a database drops SQLite's locks of the whole process.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, Self

F_OFD_SETLKW = 38
HALT = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 72, 1, 0)


class Application:
    """What the other process can do."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = -1
        self._db: sqlite3.Connection | None = None

    def halt(self, flags: int = os.O_RDWR) -> None:
        """Open ``NAME-lock`` and lock it."""
        self._lock = os.open(self._path + "-lock", flags, 0o666)
        fcntl.fcntl(self._lock, F_OFD_SETLKW, HALT)

    def release(self) -> None:
        """Close ``NAME-lock``."""
        os.close(self._lock)
        self._lock = -1

    def sql(self, statement: str, timeout: float = 5.0) -> list[Any]:
        """One statement on a connection that stays open."""
        if self._db is None:
            self._db = sqlite3.connect(self._path, timeout=timeout, isolation_level=None)
        return self._db.execute(statement).fetchall()

    def insert(self, first: int, most: int) -> list[Any]:
        """Insert numbers, a transaction each, until one fails: how many were acknowledged, and the error."""
        for number in range(first, first + most):
            try:
                self.sql(f"INSERT INTO t VALUES({number})")
            except sqlite3.Error as error:
                return [number - first, str(error)]
        return [most, ""]

    def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            self._db.close()
            self._db = None


class Failed(Exception):
    """What the other process raised."""


class Remote:
    """The other process."""

    def __init__(self, path: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.send(method, *arguments, **options)
            return self.answer()

        return call

    def send(self, method: str, *arguments: Any, **options: Any) -> None:
        """Begin a call."""
        assert self._process.stdin
        print(json.dumps([method, arguments, options]), file=self._process.stdin, flush=True)

    def answer(self, limit: float = 40.0) -> Any:
        """The result of the call that was begun."""
        assert self._process.stdout
        timer = threading.Timer(limit, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        assert line, "the application has ended, or did not answer in time"
        result, error = json.loads(line)
        if error is not None:
            raise Failed(error)
        return result

    def kill(self) -> None:
        """End it without warning."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()


def main(path: str) -> None:
    """Do as told."""
    application = Application(path)
    for line in sys.stdin:
        method, arguments, options = json.loads(line)
        try:
            answer = [getattr(application, method)(*arguments, **options), None]
        except Exception as error:
            answer = [None, f"{type(error).__name__}: {error}"]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
