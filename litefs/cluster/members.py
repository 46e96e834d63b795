"""The other nodes of the cluster, as far as this one has heard of them; remembered over a restart."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import trio

from litefs.errors import StreamError
from litefs.leases import PrimaryInfo
from litefs.replication import members
from litefs.replication.members import MAX_MEMBERS, Member

log = logging.getLogger(__name__)

FORGET_AFTER = 24 * 3600.0
"""Seconds without a connection after which a node is taken to be gone for good."""

SWEEP_INTERVAL = 60.0
"""Seconds between two looks for such nodes."""


class Members:
    """Who else there is. A node is known by its advertise URL: its id changes with each start.

    The primary learns of its replicas when they connect, tells them of each other, and forgets those that have not been
    connected for a day. Its replicas know whom it knows. A node that comes back is met again by connecting.

    Args:
        path: file to remember them in.
        own: this node, which is no other.
        now: a clock in seconds.
    """

    def __init__(self, path: Path, own: Callable[[], Member | None], now: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._own = own
        self._now = now
        self._known: dict[str, Member] = {}
        self._seen: dict[str, float] = {}
        self.changed: Callable[[], None] = lambda: None
        for member in self._load():
            self._known[member.advertise_url] = member

    def _load(self) -> list[Member]:
        try:
            return members.decode(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, StreamError) as error:
            log.warning("%s: cannot be read, other nodes have to be met again: %s", self._path, error)
            return []

    @property
    def others(self) -> list[Member]:
        """All but this node, those heard of last at the end."""
        own = self._own()
        return [member for url, member in self._known.items() if own is None or url != own.advertise_url]

    def announcement(self) -> bytes:
        """What a primary tells its replicas: itself and all others."""
        own = self._own()
        found = self.others[1 - MAX_MEMBERS :]
        return members.encode([own, *found] if own is not None else found)

    def met(self, primary: PrimaryInfo) -> None:
        """The lease names this node. More about it is known once it says so itself."""
        if primary.advertise_url not in self._known and members.is_url(primary.advertise_url):
            self.learn([Member(0, primary.hostname, primary.advertise_url, True)])

    def told(self, found: list[Member]) -> None:
        """What the primary knows: whom it does not name is forgotten."""
        named = {member.advertise_url for member in found}
        self._forget([url for url in self._known if url not in named])
        self.learn(found)

    async def keep(self, connected: Callable[[], Collection[str] | None]) -> None:
        """Forget those who are gone.

        Args:
            connected: URLs of the nodes that are, while this one is primary; None while it is not.
        """
        while True:
            self.sweep(connected())
            await trio.sleep(SWEEP_INTERVAL)

    def sweep(self, connected: Collection[str] | None) -> None:
        """See `keep`."""
        now = self._now()
        if connected is None:  # only the primary can tell who is there
            self._seen.clear()
            return
        self._seen = {url: now if url in connected else self._seen.get(url, now) for url in self._known}
        gone = [url for url, seen in self._seen.items() if now - seen > FORGET_AFTER]
        for url in gone:
            log.info("%s (%s) has not been connected for a day and is forgotten", self._known[url].hostname, url)
        if self._forget(gone):
            self.changed()

    def _forget(self, urls: Collection[str]) -> bool:
        for url in urls:
            del self._known[url]
        if urls:
            self._save()
        return bool(urls)

    def learn(self, found: list[Member]) -> None:
        """Nodes that were heard of."""
        news = [member for member in found if member.advertise_url and self._is_news(member)]
        for member in news:
            self._known.pop(member.advertise_url, None)
            self._known[member.advertise_url] = member
        while len(self._known) > MAX_MEMBERS:
            del self._known[next(iter(self._known))]
        if news:
            self._save()
            self.changed()

    def _is_news(self, member: Member) -> bool:
        known = self._known.get(member.advertise_url)
        return known != member and not (known is not None and not member.id)

    def _save(self) -> None:
        """Best effort, a few hundred bytes: without it a restarted node asks nobody before it takes the lease."""
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        try:
            temporary.write_text(json.dumps([member.as_json() for member in self._known.values()], indent=1) + "\n")
            os.replace(temporary, self._path)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self._path, error)
