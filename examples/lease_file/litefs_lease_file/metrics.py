"""What the plugin counts."""

from __future__ import annotations

from prometheus_client import Counter

RENEWALS = Counter("litefs_lease_file_renewals", "Renewals of the lease file by this node.", registry=None)
