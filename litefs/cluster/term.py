"""Which history a node's data belongs to: the *term* of the tenure that it holds everything of.

A term is a number that grows from one tenure to the next: the time at which the tenure began, in milliseconds since the
epoch, or one more than the highest term that the new primary knows, if that is later. The count alone would not do:
of two tenures that never heard of each other both would get the same number, or the one of a node that was restarted
more often the higher one. The clock alone would not do either, where it is wrong.

A node *holds* a term from the moment on that it leads under it, or that everything of its primary's that existed when
the stream began has been applied. A connection is not enough: until then a tail that lost may still be there. Under a
primary that has no term (LiteFS, older versions) it holds none, which is 0: what it has may be newer than any term.

Kept in the file ``term``, JSON, with the id of the cluster that it is a term of: ``litefs cluster reset`` ends it, too.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from litefs import jsontext
from litefs.replication.frames import MAX_TERM
from litefs.store.syncing import sync_directory

log = logging.getLogger(__name__)

FILE_NAME = "term"

RETRY = 5.0
"""Seconds until a file that could not be written is tried again."""


class Terms:
    """What this node knows of terms; remembered over a restart.

    Args:
        data_dir: where the file is.
        cluster: id of the cluster that this node belongs to, or "".
        now: seconds since the epoch.
        in_thread: runs what blocks on the disk.

    Attributes:
        held: the term whose data this node has; 0 when that is not known.
        seen: the highest that it has heard of.
    """

    def __init__(
        self,
        data_dir: Path,
        cluster: Callable[[], str],
        *,
        now: Callable[[], float] = time.time,
        in_thread: Callable[[Callable[[], None]], Awaitable[None]] = trio.to_thread.run_sync,
    ) -> None:
        self._path = data_dir / FILE_NAME
        self._cluster = cluster
        self._now = now
        self._in_thread = in_thread
        self._writing = trio.Lock()
        self._news = trio.Event()
        self.held, self.seen = self._load()

    def _load(self) -> tuple[int, int]:
        try:
            found = jsontext.loads(self._path.read_bytes())
            held, seen = check(found["held"]), check(found["seen"])
            return (held, max(held, seen)) if found["cluster"] == self._cluster() else (0, 0)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s: cannot be read, elections compare this node by its transactions: %s", self._path, error)
        return 0, 0

    async def begin(self) -> int:
        """The term of a tenure that begins now: durable when this returns, before the node may be written.

        Raises:
            OSError: the disk refused.
        """
        term = max(self.seen + 1, int(self._now() * 1000))
        await self._save(term, term)
        self.held = self.seen = term
        return term

    def heard(self, term: int) -> None:
        """There is, or was, a tenure of this term; this node need not have anything of it."""
        if term > self.seen:
            self.seen = term
            self._news.set()

    def follow(self, term: int) -> None:
        """This node has everything that the primary of this term had when it connected; 0 for one without a term.

        Also when that is less than what it held: its data is the primary's now.
        """
        self.heard(term)
        if term != self.held:
            self.held = term
            self._news.set()

    async def keep(self) -> None:
        """Write down what is heard, until cancelled.

        Late does no harm: after a crash the node claims an older term than it could.
        """
        while True:
            await self._news.wait()
            self._news = trio.Event()
            try:
                await self._save()
            except OSError as error:
                log.warning("%s: cannot be written, will try again: %s", self._path, error)
                self._news.set()
                await trio.sleep(RETRY)

    async def _save(self, held: int | None = None, seen: int | None = None) -> None:
        async with self._writing:
            known = {
                "cluster": self._cluster(),
                "held": self.held if held is None else held,
                "seen": self.seen if seen is None else seen,
            }
            await self._in_thread(lambda: self._write(json.dumps(known) + "\n"))

    def _write(self, text: str) -> None:
        try:
            self._replace(text)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._path.exists():
                raise
            self._overwrite(text)

    def _overwrite(self, text: str) -> None:
        """On a full disk: a node that has led before can lead again, in the space that the file has.

        Torn by a crash, the file says nothing, and the node claims no term.
        """
        with open(self._path, "r+", encoding="ascii") as file:
            file.write(text)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def _replace(self, text: str) -> None:
        temporary = self._path.with_name(f"{FILE_NAME}.tmp")
        with open(temporary, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        sync_directory(self._path.parent)


def check(value: object) -> int:
    """A term that came from outside. Raises ValueError for what is none."""
    if not isinstance(value, int) or not 0 <= value <= MAX_TERM:
        raise ValueError(f"{value!r:.50} is no term")
    return value
