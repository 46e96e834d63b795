"""Commits to a small and to a huge database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from bench.figures import OURS, Figure, Target
from bench.rows.start import fill_sparse
from bench.session import Session

SMALL = 10_000_000  # bytes
SAME = 0.9  # how much of the small one's rate the huge one must reach


def run(session: Session) -> Iterator[Figure]:
    """One-row commits, both files sparse; the rest of them is free pages."""
    program = next(program for program in session.programs if program.name == OURS)
    sizes = [SMALL, session.huge]
    figures = [Figure(f"one-row commits, wal NORMAL, database of {_size(size)}", "rate", more=True) for size in sizes]
    ratio = Figure("  huge of small", "ratio", more=True, target=Target("", SAME))
    with ExitStack() as stack:
        nodes = [stack.enter_context(session.node(program)) for _ in sizes]
        for node, size in zip(nodes, sizes, strict=True):
            fill_sparse(session, node, size)
        for _ in range(session.rounds):
            for node, figure in zip(nodes, figures, strict=True):
                session.settle()
                path = node.mount / "sparse"
                figure.add(OURS, session.work("commits", path=path, synchronous="NORMAL", seconds=session.seconds))
            ratio.add(OURS, figures[1].samples[OURS][-1] / figures[0].samples[OURS][-1])
    yield from figures
    yield ratio


def _size(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
