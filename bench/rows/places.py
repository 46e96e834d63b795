"""Directories in which an application finds its databases: native and mounted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.figures import NATIVE
from bench.session import Session


@contextmanager
def places(session: Session) -> Iterator[dict[str, Path]]:
    """Contestant -> directory, with a running primary behind each mounted one."""
    with ExitStack() as stack:
        native = session.fresh("native")
        found = {NATIVE: native}
        for program in session.programs:
            found[program.name] = stack.enter_context(session.node(program)).mount
        yield found
