"""Output of commands that live side by side: copied to ours line by line, each marked with the command's name.

Done in threads that do nothing else. The node's event loop answers file system requests, and must wait neither for a
terminal that was stopped nor for a log collector that is slow; the command that writes does.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence

STDOUT, STDERR = 1, 2
CHUNK = 1 << 16
LONGEST = 1 << 16  # bytes of a line that are kept together

_lock = threading.Lock()  # lines of several commands, and of both streams, stay whole


class MarkedOutput:
    """Where one run of a command writes to.

    Args:
        mark: put before each line.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._copiers: list[threading.Thread] = []

    @contextlib.contextmanager
    def pipes(self) -> Iterator[tuple[int, int]]:
        """Descriptors for the command's stdout and stderr; closed here at the end of the block."""
        sides = [(os.pipe2(os.O_CLOEXEC), target) for target in (STDOUT, STDERR)]
        for (source, _), target in sides:
            copier = threading.Thread(target=self._copy, args=(source, target), name="output", daemon=True)
            copier.start()
            self._copiers.append(copier)
        try:
            (_, out), (_, err) = sides[0][0], sides[1][0]
            yield out, err
        finally:
            for (_, sink), _ in sides:
                os.close(sink)

    def drain(self, seconds: float) -> None:
        """Wait until everything is copied, or as long as that: a process left behind may keep the pipe open."""
        deadline = time.monotonic() + seconds
        for copier in self._copiers:
            copier.join(max(deadline - time.monotonic(), 0))

    def _copy(self, source: int, target: int) -> None:
        rest = b""
        with contextlib.closing(os.fdopen(source, "rb", buffering=0)) as pipe:
            while piece := pipe.read(CHUNK):
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > LONGEST:
                    lines, rest = [*lines, rest], b""
                self._write(target, lines)
        if rest:
            self._write(target, [rest])

    def _write(self, target: int, lines: Sequence[bytes]) -> None:
        text = b"".join(self._mark + line + b"\n" for line in lines)
        # Nobody may be listening any more. The command is not to die of that, nor to wait.
        with _lock, contextlib.suppress(OSError):
            write_all(target, text)


def write_all(target: int, text: bytes) -> None:
    """Write all of it, also to a descriptor that somebody has made non-blocking. Raises OSError."""
    while text:
        try:
            text = text[os.write(target, text) :]
        except BlockingIOError:
            select.select([], [target], [])


def marks(names: Sequence[str]) -> list[str]:
    """``web    | `` for each name, equally wide; those that occur twice are numbered."""
    shown = [
        name if names.count(name) == 1 else f"{name}.{names[:at].count(name) + 1}" for at, name in enumerate(names)
    ]
    width = max(map(len, shown), default=0)
    return [f"{name:{width}} | " for name in shown]
