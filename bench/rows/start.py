"""From the start of the process to a mount that answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

from bench.databases import build_sparse
from bench.figures import OURS, Figure, Target
from bench.nodes import Node
from bench.rows.bulk import source_database
from bench.session import Session

DATABASES = 2000
LIMIT = 0.3  # seconds

Fill = Callable[[Session, Node], object]


def run(session: Session) -> Iterator[Figure]:
    """Starts on data directories of different sizes, each left by a clean stop."""
    yield _measure(session, "nothing", lambda session, node: None)
    yield _measure(session, f"{DATABASES:,} databases", _many)
    if source_database(session) is not None:
        yield _measure(session, f"{session.size / 1e9:.3g} GB", _big)
    # Not for real LiteFS, which reads every byte of every database at start.
    yield _measure(session, f"{session.huge / 1e9:.3g} GB, sparse", fill_sparse, only=OURS)


def _measure(session: Session, what: str, fill: Fill, only: str = "") -> Figure:
    figure = Figure(f"start to mounted, with {what}", "s", target=Target("", LIMIT))
    nodes = [Node(program, session.fresh("start")) for program in session.programs if only in ("", program.name)]
    try:
        for node in nodes:
            node.start()
            node.wait_ready()
            fill(session, node)
            node.stop()
        for _ in range(session.rounds):
            for node in nodes:
                session.settle()
                figure.add(node.program.name, node.start())
                node.wait_ready()
                node.stop()
    finally:
        for node in nodes:
            node.remove()
    return figure


def _many(session: Session, node: Node) -> None:
    session.work("many", directory=node.mount, count=DATABASES)


def _big(session: Session, node: Node) -> None:
    source = source_database(session)
    assert source is not None
    node.program.run("import", "-url", node.url, "-name", "big", source)


def fill_sparse(session: Session, node: Node, size: int = 0) -> None:
    """Give a running node of ours a WAL database that is mostly holes, with a table `t`."""
    node.stop()  # it takes the file over when it starts; an import would fill the holes
    directory = node.data / "dbs" / "sparse"
    directory.mkdir(parents=True)
    build_sparse(session.scratch / "sparse.db", size or session.huge)
    shutil.move(session.scratch / "sparse.db", directory / "database")
    node.start()
    node.wait_ready()
    session.work("commits", path=node.mount / "sparse", synchronous="NORMAL", seconds=0.1)
