"""Brings the database to the newest version. litefs runs it on the primary, and nowhere else."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

STEPS = [
    """
    create table notes (id integer primary key, text not null, node not null, words integer, counted_by);
    create table diary (id integer primary key, node not null, what not null);
    """,
]

with closing(sqlite3.connect(os.environ["DATABASE"], isolation_level=None)) as db:
    db.execute("pragma journal_mode = wal")
    (version,) = db.execute("pragma user_version").fetchone()
    for number, step in enumerate(STEPS[version:], version + 1):
        db.executescript(f"begin immediate; {step}; pragma user_version = {number}; commit")
    db.execute("insert into diary (node, what) values (?, 'migrated')", [os.environ["HOSTNAME"]])
