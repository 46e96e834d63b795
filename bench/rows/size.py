"""Commits to a small and to a huge database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

from bench.databases import build_sparse
from bench.figures import NATIVE, OURS, Figure, Target
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
        paths = []
        for size in sizes:
            native = session.fresh("native")
            stack.callback(shutil.rmtree, native)
            build_sparse(native / "sparse", size)
            node = stack.enter_context(session.node(program))
            fill_sparse(session, node, size)
            node.restart()  # its memory is that of a node which has found everything in order
            paths.append({NATIVE: native / "sparse", OURS: node.mount / "sparse"})
        for _ in range(session.rounds):
            for contestant in (NATIVE, OURS):
                for found, figure in zip(paths, figures, strict=True):
                    session.settle()
                    arguments = {"path": found[contestant], "synchronous": "NORMAL", "seconds": session.seconds}
                    figure.add(contestant, session.work("commits", **arguments))
                small, huge = (figure.samples[contestant][-1] for figure in figures)
                ratio.add(contestant, huge / small)
    yield from figures
    yield ratio


def _size(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
