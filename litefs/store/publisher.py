"""From captured to published: the transactions of one database that the cluster may not see yet.

A transaction is captured before the application hears of its commit. It is published, which means streamed, backed
up and announced, once two things hold: it is durable, and SQLite itself considers it committed (accepted). A process
killed between the two steps of a WAL commit leaves a captured transaction that the next writer overwrites: it is
retracted, and nobody but this node has ever seen it. Only the newest transaction can be in doubt, since SQLite
starts no other before it has settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from litefs.ltx import Pos

NOWHERE = Pos(0, 0)


@dataclass(slots=True)
class State:
    """What one transaction moves: where the database is."""

    pos: Pos = NOWHERE
    page_size: int = 0  # bytes; 0 before the first transaction
    commit: int = 0  # pages
    timestamp: int = 0  # ms since the epoch, of the transaction
    is_wal: bool = False  # page 1 says WAL


@dataclass(slots=True)
class Captured:
    """A transaction on its way to being published."""

    state: State
    before: State
    wal_start: int = 0  # frames of the WAL before it
    wal_end: int = 0  # frames of the WAL up to its commit frame; 0 when it did not come through the WAL
    undo: list[tuple[int, int]] = field(default_factory=list)  # (page, checksum before), while it can be taken back
    accepted: bool = False
    durable: bool = False


class Publisher:
    """Queue of captured transactions of one database, oldest first."""

    def __init__(self, on_publish: Callable[[Captured], None]) -> None:
        self._queue: deque[Captured] = deque()
        self._on_publish = on_publish

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def in_doubt(self) -> Captured | None:
        """The newest transaction, when SQLite has not yet shown that it considers it committed."""
        return self._queue[-1] if self._queue and not self._queue[-1].accepted else None

    @property
    def undurable(self) -> bool:
        """Whether a captured transaction is not known to be on disk."""
        return any(not captured.durable for captured in reversed(self._queue))

    def add(self, captured: Captured) -> None:
        """A transaction was captured."""
        self._queue.append(captured)
        self._advance()

    def confirm(self) -> None:
        """The newest transaction is about to be answered: only SQLite can take it back from now on."""
        if self._queue and self._queue[-1].accepted:
            self._queue[-1].undo.clear()

    def accept(self) -> None:
        """SQLite considers everything captured so far committed."""
        if self._queue and not self._queue[-1].accepted:
            self._queue[-1].accepted = True
            self._queue[-1].undo.clear()
            self._advance()

    def made_durable(self, txid: int) -> None:
        """Everything up to this TXID is on disk."""
        for captured in self._queue:
            if captured.state.pos.txid > txid:
                break
            captured.durable = True
        self._advance()

    def retract(self) -> Captured:
        """Take back the newest transaction."""
        return self._queue.pop()

    def _advance(self) -> None:
        queue = self._queue
        while queue and queue[0].durable and queue[0].accepted:
            self._on_publish(queue.popleft())
