"""Which clusters there are: those that were created, have a token, or have once backed up. All of it blocks."""

from __future__ import annotations

import time
from dataclasses import dataclass

from litefs_backup_store.objects import Objects

from litefs_cloud_server.listing import Listing
from litefs_cloud_server.tokens import CLUSTER_NAME, CLUSTER_NAME_HINT, EVERY, TokenError, Tokens

KEY = "clusters.json"


@dataclass(frozen=True, slots=True)
class Registered:
    """A cluster.

    Attributes:
        created: seconds since the epoch.
    """

    name: str
    created: int


class Registry:
    """The clusters of a server's storage."""

    def __init__(self, objects: Objects, tokens: Tokens) -> None:
        self._list = Listing(objects, KEY, "clusters")
        self._tokens = tokens

    def all(self) -> list[Registered]:
        """Every cluster, by name. Raises StorageError."""
        found = {str(item["name"]): int(item["created"]) for item in self._list.items()}
        for token in self._tokens.all():
            if token.cluster != EVERY:
                found.setdefault(token.cluster, token.created)
        return [Registered(name, created) for name, created in sorted(found.items())]

    def find(self, name: str) -> Registered | None:
        """The cluster of that name; None where there is none. Raises StorageError."""
        return next((found for found in self.all() if found.name == name), None)

    def add(self, name: str) -> Registered:
        """Remember a cluster; one that is known already stays as it is. Raises TokenError, StorageError."""
        if not CLUSTER_NAME.fullmatch(name):
            raise TokenError(f"{name[:64]!r} cannot be the name of a cluster", CLUSTER_NAME_HINT)
        new = self.find(name) or Registered(name, int(time.time()))

        def add(items: list[dict[str, object]]) -> list[dict[str, object]]:
            known = any(item["name"] == name for item in items)
            return items if known else [*items, {"name": new.name, "created": new.created}]

        self._list.change(add)
        return new

    def remove(self, name: str) -> None:
        """Forget a cluster and its tokens. Raises StorageError."""
        self._tokens.revoke_all(name)
        self._list.change(lambda items: [item for item in items if item["name"] != name])
