"""The rollback journal that a crash has left: played back, unless its transaction was committed. Blocking."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from litefs.errors import FormatError
from litefs.sqlite import freelist
from litefs.sqlite.journal import Journal, is_finalised
from litefs.store import superjournal
from litefs.store.syncing import sync_fd

if TYPE_CHECKING:
    from litefs.store.database import Database

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of the transaction that the journal is of.

    Attributes:
        committed: it was, and only the journal is left of it: its super-journal is gone.
        touched: pages of the database file that may differ from what they were before.
    """

    committed: bool = False
    touched: set[int] = field(default_factory=set)


def play_back(db: Database) -> Outcome:
    """Bring the database file to where it was before the transaction, if there is one that is not committed.

    Raises:
        OSError: the disk failed.
    """
    outcome = Outcome()
    try:
        fd = os.open(db.path / "journal", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return outcome
    try:
        size = os.fstat(fd).st_size
        if is_finalised(os.pread(fd, 28, 0)):
            return outcome
        journal = Journal(fd, size)
        super_name = journal.super_journal()
        if super_name and superjournal.commits(db.store.super_dir, super_name):
            outcome.committed = True
        else:
            _restore(db, journal, outcome.touched)
            outcome.touched |= _unjournaled(db, journal)
    except FormatError as error:
        log.warning("%s: ignoring a journal that is not one: %s", db.name, error)
    finally:
        os.close(fd)
    return outcome


def _restore(db: Database, journal: Journal, touched: set[int]) -> None:
    """Put the journal's pages back; their numbers are added to `touched`."""
    log.info("%s: rolling back a transaction that was not finished", db.name)
    fd = os.open(db.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for pgno, data in journal.pages():
            os.pwrite(fd, data, (pgno - 1) * journal.page_size)
            touched.add(pgno)
        os.ftruncate(fd, journal.original_pages * journal.page_size)
        sync_fd(fd)
    finally:
        os.close(fd)


def _unjournaled(db: Database, journal: Journal) -> set[int]:
    """Unused pages, which the transaction may have used: the journal does not have them, their old content is gone."""
    fd = os.open(db.file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = journal.page_size
        return freelist.leaves(lambda pgno: os.pread(fd, size, (pgno - 1) * size))
    finally:
        os.close(fd)
