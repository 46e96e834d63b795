"""``python -m bench [NAMES]``: measure, print each figure, and the table in the end.

With LITEFS_PEER naming the binary of real LiteFS, it takes part.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sqlite3
import sys
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench import record
from bench.figures import Figure, line, markdown
from bench.nodes import NodeFailed, find_programs
from bench.rows import ROWS
from bench.scratch import BASE, scratch
from bench.session import Session

_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9}


def _bytes(text: str) -> int:
    factor = _UNITS.get(text[-1:], 1)
    return int(float(text.rstrip("kMG")) * factor)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure, of {', '.join(ROWS)}; default: all")
    parser.add_argument(
        "--rounds", type=int, default=5, help="times each is repeated; the median is shown (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="for one measurement of a rate (%(default)s)")
    parser.add_argument("--size", type=_bytes, default=10**9, help="of the big database, like 200M (1G)")
    parser.add_argument("--huge", type=_bytes, default=10**10, help="of the huge, sparse database (10G)")
    parser.add_argument("--scratch", type=Path, help=f"directory to work in ({BASE})")
    parser.add_argument("--image", action="store_true", help="work in a fresh ext4 of its own, mounted from an image")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the figures there, for --check and bench.plot")
    parser.add_argument("--check", type=Path, metavar="FILE", help="fail where ours fell behind what was kept there")
    found = parser.parse_args()
    if unknown := set(found.names) - set(ROWS):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return found


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Clean up once, whatever the user thinks of how long that takes."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _measure(session: Session, names: list[str]) -> tuple[list[Figure], bool]:
    """Figures, and whether all could be measured."""
    figures, complete = [], True
    for name in names:
        try:
            for figure in chain(ROWS[name](session), session.memory(name)):
                print(line(figure), flush=True)
                figures.append(figure)
        except NodeFailed as error:
            complete = False
            session.peaks = {}
            print(f"{name}: {error}", *getattr(error, "__notes__", []), sep="\n", file=sys.stderr)
    return figures, complete


def main() -> int:
    """Exit code 1 when a target is missed (with --check: when ours fell behind), 2 when something was not measured."""
    arguments = _arguments()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)
    try:
        with scratch(arguments.scratch, image=arguments.image) as (directory, what):
            load = os.getloadavg()[0]
            where = (
                f"{os.cpu_count()} CPUs, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
                f"SQLite {sqlite3.sqlite_version}, {what}, load {load:.1f}; median (least-most) of {arguments.rounds}"
            )
            print(where, flush=True)
            session = Session(
                directory, find_programs(), arguments.rounds, arguments.seconds, arguments.size, arguments.huge
            )
            figures, complete = _measure(session, arguments.names or list(ROWS))
    except KeyboardInterrupt:
        return 130
    print(f"\n{markdown(figures)}")
    if arguments.save:
        record.save(figures, where, arguments.save)
    if not complete:
        return 2
    if arguments.check:
        slower = record.behind(figures, record.load(arguments.check))
        print(*(f"fell behind: {text}" for text in slower), sep="\n", end="\n" if slower else "")
        return int(bool(slower))
    return int(any(figure.reached() is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
