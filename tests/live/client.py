"""A SQLite client in a process of its own: runs the SQL it is sent as JSON lines and answers likewise.

Run as a script it is the client; imported, `Client` starts one. Tests look at a live database through these only:
a connection in the test's own process would lose its locks whenever the code under test closes a descriptor.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from types import TracebackType
from typing import Any, Self


class ClientError(Exception):
    """What SQLite raised in the other process."""


class Client:
    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, path, str(timeout)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, sql: str, *parameters: Any) -> list[list[Any]]:
        self.send(sql, *parameters)
        return self.answer()

    def send(self, sql: str, *parameters: Any) -> None:
        assert self._process.stdin
        print(json.dumps([sql, parameters]), file=self._process.stdin, flush=True)

    def answer(self) -> list[list[Any]]:
        assert self._process.stdout
        rows, error = json.loads(self._process.stdout.readline())
        if error is not None:
            raise ClientError(error)
        return rows  # type: ignore[no-any-return]

    def value(self, sql: str, *parameters: Any) -> Any:
        return self(sql, *parameters)[0][0]

    def kill(self) -> None:
        self._process.kill()
        self._finish()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._finish()

    def _finish(self) -> None:
        self._process.wait(10)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.close()


def main(path: str, timeout: str) -> None:
    connection = sqlite3.connect(path, timeout=float(timeout), isolation_level=None)
    for line in sys.stdin:
        sql, parameters = json.loads(line)
        answer: tuple[list[Any] | None, str | None]
        try:
            answer = connection.execute(sql, parameters).fetchall(), None
        except sqlite3.Error as exc:
            answer = None, str(exc)
        print(json.dumps(answer, default=bytes.hex), flush=True)
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
