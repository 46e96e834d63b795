"""The way of a database's page checksums from where they were saved along the LTX files written since. Blocking."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from litefs import ltx
from litefs.ltx import Pos
from litefs.store import transaction
from litefs.store.pagetable import PageTable, Stamp
from litefs.store.publisher import State


@dataclass(slots=True)
class Way:
    """From the saved table of page checksums along the LTX files written since.

    Attributes:
        state: where it has led so far.
        touched: pages in those files.
        first_pages: checksums of page 1.
        seen: page and checksum of everything in those files.
    """

    stamp: Stamp
    table: PageTable
    state: State
    touched: set[int] = field(default_factory=set)
    first_pages: set[int] = field(default_factory=set)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def follow(self, path: Path) -> bool:
        """Go on with one more file; False when it does not follow.

        Raises:
            LTXError: it is not whole; nothing has changed.
        """
        checksums = transaction.Checksums()
        with open(path, "rb") as file:
            decoder = ltx.Decoder(file, name=path.name)
            head = decoder.header
            if head.pre_apply != self.state.pos.checksum and not head.is_snapshot:
                return False
            for pgno, data in decoder:
                checksums.append(pgno, ltx.page_checksum(pgno, data))
        if head.page_size != self.state.page_size:
            self.table.clear()
        for pgno, checksum in checksums:
            self.table.set(pgno, checksum)
            self.touched.add(pgno)
            self.seen.add((pgno, checksum))
        self.first_pages.add(self.table.get(1))
        self.table.truncate(head.commit)
        pos = Pos(head.max_txid, decoder.trailer.post_apply)
        self.state = State(pos, head.page_size, head.commit, head.timestamp)
        return True

    @property
    def is_right(self) -> bool:
        """Whether the table has the checksum of the position."""
        return self.table.checksum(self.state.page_size, self.state.commit) == self.state.pos.checksum
