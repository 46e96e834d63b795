"""What the server has done since its start."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Counts, by cluster where the name says nothing else.

    Attributes:
        requests: answered ones, by method, path and status.
        uploads, upload_bytes: LTX files that were stored, and their bytes.
        snapshots: states that were read, whole.
        restores: states that became the newest one again, and databases that were put there.
    """

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    upload_bytes: Counter[str] = field(default_factory=Counter)
    snapshots: Counter[str] = field(default_factory=Counter)
    restores: Counter[str] = field(default_factory=Counter)

    def answered(self, method: str, path: str, status: int) -> None:
        """A request was answered; the path must be one of the API's, so that there are few."""
        self.requests[method, path, status] += 1

    def drop(self, cluster: str) -> None:
        """Forget a cluster."""
        for counter in (self.uploads, self.upload_bytes, self.snapshots, self.restores):
            counter.pop(cluster, None)
