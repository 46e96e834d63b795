"""Where in the WAL a position is, as the headers of LTX files tell. Blocking.

That is more certain than content, where a checkpoint was under way when power failed: pages of the database file may be
of any later transaction then, or half written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from litefs import ltx
from litefs.errors import LTXError
from litefs.sqlite.wal import WalHeader
from litefs.store.ltxdir import LTXDir

FAR = 64  # LTX files that are looked at


def place(
    ltx_dir: LTXDir, txid: int, node_ids: Collection[int], header: WalHeader | None, ends: Sequence[int]
) -> range | None:
    """How many transactions of a WAL a position may include; None when that cannot be told.

    No number is right (an empty range) where the position lies behind what can be read of the WAL: its end is lost, or
    there is a hole before it.

    A transaction that an application committed names the WAL and its place there. One that came from elsewhere names
    none of ours, and is in the WAL or not.

    Args:
        txid: of the position.
        node_ids: which this node has had: of a transaction of another node, the WAL is another, too. (By its random
            salts it knows its own WAL as well, but not the one before.)
        header: of the WAL.
        ends: where the transactions in the WAL end, in bytes.
    """
    if header is None:
        return None
    ours = False  # all of them so far
    for unplaced, item in enumerate(low for low in reversed(ltx_dir.ranges()) if low[1] <= txid):
        if unplaced > FAR:
            return None
        try:
            with open(ltx_dir.file(*item), "rb") as file:
                head, _ = ltx.read_info(file)
        except (OSError, LTXError):
            return None
        same = head.wal_size and (head.salt1, head.salt2) == (header.salt1, header.salt2)
        if same or (head.wal_size and head.node_id in node_ids):
            least = 0
            if same:
                end = head.wal_offset + head.wal_size
                if end > max(ends, default=0):
                    return range(0)
                if end not in ends:
                    return None
                least = ends.index(end) + 1
            return range(least, min(least + unplaced, len(ends)) + 1)
        ours = head.node_id in node_ids and (ours or not unplaced)
    # Imports and transactions of a rollback journal, and what was before has been removed: any place is possible.
    return range(len(ends) + 1) if ours else None
