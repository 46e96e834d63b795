"""Acting on a live database as a well-behaved SQLite client of its path.

Blocking code for worker threads. It makes a database equal to a set of pages while applications have it open, reads
consistent snapshots, and checkpoints. It works alike on the mount and in a plain directory.
"""

from litefs.live.database import LiveDatabase
from litefs.live.pageset import Busy, PageSet
from litefs.live.snapshot import Snapshot

__all__ = ["Busy", "LiveDatabase", "PageSet", "Snapshot"]
