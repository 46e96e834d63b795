"""Continuous backup: the part that is the same wherever transactions go for safekeeping.

A plugin brings a `BackupClient`, which knows how to ask for positions, hand over an LTX file and fetch a snapshot;
`BackupService` does the rest while this node is the primary. `litefs.testing.BackupConformance` checks a client.
"""

from litefs.backup.client import BackupClient, BackupError, DatabaseRefused, PositionConflict
from litefs.backup.progress import BackupStatistics, Verification
from litefs.backup.service import BackupService

__all__ = [
    "BackupClient",
    "BackupError",
    "BackupService",
    "BackupStatistics",
    "DatabaseRefused",
    "PositionConflict",
    "Verification",
]
