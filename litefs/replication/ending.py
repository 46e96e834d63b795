"""How a replica's stream comes to its end, and the lease that it may be sent last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto


class Ending(Enum):
    """How a stream comes to its end."""

    NOW = auto()  # after the piece that is being sent
    FLUSH = auto()  # after everything that is published
    HANDOFF = auto()  # the same, and then the lease


@dataclass(slots=True)
class Offer:
    """A lease on its way to a peer.

    Args:
        lease_id: of the lease.
        give: called once the peer has been sent everything, right before the lease: from then on it is the peer's.
            May raise a LitefsError to keep it.
    """

    lease_id: str
    give: Callable[[], None]
    given: bool = False

    def settle(self) -> None:
        """Give it. Raises LitefsError when it is kept."""
        self.given = True
        try:
            self.give()
        except BaseException:
            self.given = False
            raise
