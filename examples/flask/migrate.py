"""Brings the database to the newest version. litefs runs it on the primary, and nowhere else."""

from __future__ import annotations

from app import NODE, database, huey

STEPS = [
    "create table notes (id integer primary key, text not null, node not null, words integer, counted_by)",
    "create table diary (id integer primary key, node not null, what not null)",
]

with database() as db:
    db.execute("pragma journal_mode = wal")
    (version,) = db.execute("pragma user_version").fetchone()

for number, step in enumerate(STEPS[version:], version + 1):
    with database() as db:
        db.execute("begin immediate")
        db.execute(step)
        db.execute(f"pragma user_version = {number}")

huey.storage.initialize_schema()

with database() as db:
    db.execute("insert into diary (node, what) values (?, 'migrated')", [NODE])
