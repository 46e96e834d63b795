"""The other nodes of the cluster, as far as this one has heard of them; remembered over a restart."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from litefs.errors import StreamError
from litefs.leases import PrimaryInfo
from litefs.replication import members
from litefs.replication.members import MAX_MEMBERS, Member

log = logging.getLogger(__name__)


class Members:
    """Who else there is. A node is known by its advertise URL: its id changes with each start.

    The primary learns of its replicas when they connect, and tells them of each other. Names of nodes that are gone for
    good stay until newer ones take their place; asking them costs nothing but a refused connection.

    Args:
        path: file to remember them in.
        own: this node, which is no other.
    """

    def __init__(self, path: Path, own: Callable[[], Member | None]) -> None:
        self._path = path
        self._own = own
        self._known: dict[str, Member] = {}
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
