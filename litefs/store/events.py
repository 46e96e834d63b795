"""What happens on this node, told to whoever subscribes: transactions and changes of the primary."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

BUFFER = 1024  # events; a subscriber that falls further behind is dropped, as in LiteFS


@dataclass(frozen=True, slots=True)
class TxEvent:
    """A transaction was published here: committed, applied or a database dropped (commit 0)."""

    db: str
    txid: int
    checksum: int
    page_size: int
    commit: int  # pages
    timestamp: int  # ms since the epoch


@dataclass(frozen=True, slots=True)
class PrimaryChangeEvent:
    """The node gained or lost the primary role, or knows another primary."""

    is_primary: bool
    hostname: str | None  # of the remote primary; None on the primary and when unknown


Event = TxEvent | PrimaryChangeEvent


class EventHub:
    """Fans events out to subscribers without ever waiting for one."""

    def __init__(self) -> None:
        self._subscribers: set[trio.MemorySendChannel[Event]] = set()

    def __len__(self) -> int:
        return len(self._subscribers)

    def publish(self, event: Event) -> None:
        """Hand the event to every subscriber; one whose buffer is full is dropped (its channel ends)."""
        for channel in list(self._subscribers):
            try:
                channel.send_nowait(event)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._drop(channel)

    def _drop(self, channel: trio.MemorySendChannel[Event]) -> None:
        self._subscribers.discard(channel)
        channel.close()

    @asynccontextmanager
    async def subscribe(self, buffer: int = BUFFER) -> AsyncIterator[trio.MemoryReceiveChannel[Event]]:
        """Receive channel of the events from now on; ends early when the reader is more than `buffer` behind."""
        send, receive = trio.open_memory_channel[Event](buffer if buffer else math.inf)
        self._subscribers.add(send)
        try:
            yield receive
        finally:
            self._drop(send)
            receive.close()
