"""One-row commits on a single node."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import LITEFS, Figure, Target
from bench.rows.places import places
from bench.session import Session

MODES = [("wal", "NORMAL", 6.0), ("wal", "FULL", 4.0), ("delete", "FULL", 2.0)]


def run(session: Session) -> Iterator[Figure]:
    """Inserts of 100 bytes, each a transaction, by one process."""
    with places(session) as directories:
        for journal, synchronous, least in MODES:
            title = f"one-row commits, {journal} {synchronous}"
            figure = Figure(title, "rate", more=True, target=Target(LITEFS, least))
            for number in range(session.rounds):
                for name, directory in directories.items():
                    path = directory / f"commits-{journal}-{synchronous}-{number}"
                    session.work("create", path=path, journal=journal, rows=0)
                    session.settle()
                    figure.add(
                        name, session.work("commits", path=path, synchronous=synchronous, seconds=session.seconds)
                    )
            yield figure
