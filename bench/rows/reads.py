"""Point reads of a hot database."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import NATIVE, Figure, Target
from bench.rows.places import places
from bench.session import Session

ROWS = 100_000
TARGETS = {"wal": 0.9, "delete": 0.8}


def run(session: Session) -> Iterator[Figure]:
    """Primary-key look-ups in random order, one a transaction, 100,000 rows; all pages in the kernel's cache."""
    with places(session) as directories:
        for journal, least in TARGETS.items():
            figure = Figure(f"point reads, {journal}", "rate", more=True, target=Target(NATIVE, least))
            for directory in directories.values():
                session.work("create", path=directory / f"{journal}-reads", journal=journal, rows=ROWS)
            for _ in range(session.rounds):
                for name, directory in directories.items():
                    session.settle()
                    figure.add(
                        name, session.work("reads", path=directory / f"{journal}-reads", seconds=session.seconds)
                    )
            yield figure
