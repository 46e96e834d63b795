"""A node for services to run in, without a mount, databases or other nodes."""

from __future__ import annotations

from litefs.cluster.role import Role
from litefs.config import Config
from litefs.errors import DatabaseNotFound
from litefs.leases import PrimaryInfo
from litefs.store.events import EventHub


class EmptyStore:
    """The part of a store that services look at; it has no databases.

    Attributes:
        node_id: of the node.
        writable: whether applications may change databases now.
        cluster_id: of the cluster.
    """

    def __init__(self) -> None:
        self.node_id = 1
        self.writable = True
        self.cluster_id = "LFSC0123456789ABCDEF"
        self.events = EventHub()

    def opened(self, name: str) -> None:
        """No database is open."""

    async def database(self, name: str) -> None:
        """There is none.  Raises DatabaseNotFound."""
        raise DatabaseNotFound(name)


class FakeNode:
    """What `litefs.extensions.Service.run` gets; it starts as the primary.

    Args:
        config: its litefs.yml; `litefs.testing.whole_config` makes one.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = EmptyStore()
        self.role = Role("here", candidate=True, events=self.store.events)
        self.role.lead()

    def lead(self) -> None:
        """Become the primary."""
        self.store.writable = True
        self.role.lead()

    def follow(self, primary: PrimaryInfo | None) -> None:
        """Become a replica of that primary, or of none for now."""
        self.store.writable = False
        self.role.follow(primary)
