"""A primary with one replica."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import quantiles

from bench.figures import LITEFS, Figure, Target
from bench.nodes import Node
from bench.session import Session

COUNT = 300  # transactions looked for on the replica, a round
PAUSE = 0.01  # seconds at most between two of them


@contextmanager
def _pairs(session: Session) -> Iterator[dict[str, tuple[Node, Node]]]:
    """Contestant -> primary and replica."""
    with ExitStack() as stack:
        found = {}
        for program in session.programs:
            primary = stack.enter_context(session.node(program))
            found[program.name] = primary, stack.enter_context(session.node(program, primary))
        yield found


def commits(session: Session) -> Iterator[Figure]:
    """One-row commits while a replica follows."""
    rate = Figure("one-row commits, wal NORMAL, one replica", "rate", more=True, target=Target(LITEFS, 4))
    applied = Figure("  until the replica has them all", "rate", more=True)
    with _pairs(session) as pairs:
        for number in range(session.rounds):
            for name, (primary, replica) in pairs.items():
                database = f"replicated-{number}"
                session.work("create", path=primary.mount / database, journal="wal", rows=0)
                session.settle()
                before = _txid(primary, database)
                arguments = {"path": primary.mount / database, "synchronous": "NORMAL", "seconds": session.seconds}
                rate.add(name, session.work("commits", **arguments))
                done = time.perf_counter()
                replica.wait_position(database, primary.position(database))
                late = time.perf_counter() - done
                count = _txid(primary, database) - before
                applied.add(name, count / (session.seconds + late))
    yield rate
    yield applied


def _txid(node: Node, database: str) -> int:
    return int(node.position(database)[:16], 16)


def visible(session: Session) -> Iterator[Figure]:
    """How long after COMMIT has returned a SELECT on the replica sees the row."""
    title = "visible on the replica after COMMIT"
    p50 = Figure(f"{title}, p50", "ms", target=Target(LITEFS, 2))
    p99 = Figure(f"{title}, p99", "ms", target=Target(LITEFS, 2))
    whole = Figure("visible on the replica from the start of the transaction, p50", "ms")
    with _pairs(session) as pairs:
        for primary, replica in pairs.values():
            session.work("create", path=primary.mount / "visible", journal="wal", rows=0)
            replica.wait_position("visible", primary.position("visible"))
        for _ in range(session.rounds):
            for name, (primary, replica) in pairs.items():
                session.settle()
                found = session.work(
                    "visible",
                    path=primary.mount / "visible", replica=replica.mount / "visible", count=COUNT, pause=PAUSE,
                )  # fmt: skip
                cut = quantiles([after for after, _ in found], n=100)
                p50.add(name, cut[49])
                p99.add(name, cut[98])
                whole.add(name, quantiles([total for _, total in found], n=100)[49])
    yield p50
    yield p99
    yield whole
