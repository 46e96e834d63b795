"""Counts the words of notes. litefs runs it on the primary as long as that is primary.

A note without a count is the queue, and each job is one transaction: it is done on one node, or not at all.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing

NODE = os.environ["HOSTNAME"]
PAUSE = 0.1  # seconds between two looks at an empty queue

asked_to_end = threading.Event()


def job(db: sqlite3.Connection) -> bool:
    """Do one; False where there is none."""
    found = db.execute("select id, text from notes where words is null order by id limit 1").fetchone()
    if found is None:
        return False
    number, text = found
    with db:
        db.execute("update notes set words = ?, counted_by = ? where id = ?", (len(text.split()), NODE, number))
    return True


def tell(db: sqlite3.Connection, what: str) -> None:
    with db:
        db.execute("insert into diary (node, what) values (?, ?)", (NODE, what))


signal.signal(signal.SIGTERM, lambda *_: asked_to_end.set())
with closing(sqlite3.connect(os.environ["DATABASE"])) as db:
    tell(db, "worker began")
    while not asked_to_end.is_set():
        if not job(db):
            asked_to_end.wait(PAUSE)
    tell(db, "worker ended")  # before another node becomes primary, so this can still be written
