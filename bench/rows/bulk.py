"""Whole databases on their way in, out, and to a new replica."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

from bench.databases import build_filled
from bench.figures import LITEFS, Figure, Target
from bench.nodes import Node, Program
from bench.scratch import free_bytes
from bench.session import Session

COPIES = 7  # of the big database, at most, at the same time
POLL = 0.005
PAUSE = 0.004  # seconds at most between two commits while a snapshot streams
CALM = 1.0  # seconds of commits before the replica joins


def source_database(session: Session) -> Path | None:
    """The big database, built once; None when the disk is too small."""
    path = session.scratch / "source.db"
    if not path.exists():
        if free_bytes(session.scratch) < COPIES * session.size:
            print(f"skipped: {COPIES * session.size / 1e9:.0f} GB of free disk are needed; --size asks for less")
            return None
        build_filled(path, session.size)
    return path


def transfers(session: Session) -> Iterator[Figure]:
    """Import and export by the command line, and a replica that starts with nothing."""
    source = source_database(session)
    if source is None:
        return
    of = f"of {source.stat().st_size / 1e9:.2f} GB"
    figures = [Figure(f"{what} {of}", "s", target=Target(LITEFS, 3)) for what in ("import", "export", "bootstrap")]
    for _ in range(session.rounds):
        for program in session.programs:
            with session.node(program) as primary:
                for figure, seconds in zip(figures, _transfer(session, primary, source), strict=True):
                    figure.add(program.name, seconds)
    yield from figures


def _transfer(session: Session, primary: Node, source: Path) -> Iterator[float]:
    api = ("-url", primary.url, "-name", "big")
    session.settle()
    begin = time.perf_counter()
    primary.program.run("import", *api, source)
    yield time.perf_counter() - begin
    target = session.scratch / "export"
    session.settle()
    begin = time.perf_counter()
    primary.program.run("export", *api, target)
    yield time.perf_counter() - begin
    target.unlink()
    session.settle()
    begin = time.perf_counter()
    with session.node(primary.program, primary) as replica:
        replica.wait_position("big", primary.position("big"), POLL)
        yield time.perf_counter() - begin


def commits_during_snapshot(session: Session) -> Iterator[Figure]:
    """One-row commits to a big database, at a pace, before and while a replica gets its snapshot."""
    source = source_database(session)
    if source is None:
        return
    names = ("alone, p50", "alone, p99", "while a snapshot streams, p50", "while a snapshot streams, p99")
    figures = [Figure(f"commit latency, {name}", "ms") for name in names]
    longest = Figure("commit latency, while a snapshot streams, longest", "ms")
    for _ in range(session.rounds):
        for program in session.programs:
            calm, busy = _disturb(session, program, source)
            for figure, values in zip(figures, (calm, calm, busy, busy), strict=True):
                figure.add(program.name, quantiles(values, n=100)[49 if "p50" in figure.title else 98])
            longest.add(program.name, max(busy))
    yield from figures
    yield longest


def _disturb(session: Session, program: Program, source: Path) -> tuple[list[float], list[float]]:
    with session.node(program) as primary:
        primary.program.run("import", "-url", primary.url, "-name", "big", source)
        session.settle()
        path = primary.mount / "big"
        with session.working("latencies", path=path, synchronous="NORMAL", pause=PAUSE) as writer:
            time.sleep(CALM)  # what commits take without a replica
            begin = time.monotonic()
            with session.node(program, primary) as replica:
                replica.wait_written("big", POLL)
                end = time.monotonic()
                writer.finish()
                found = writer.result()
    return [took for at, took in found if at < begin], [took for at, took in found if begin <= at <= end]
