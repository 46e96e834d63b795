"""Where targets are found, and what they share.

A target returns, or raises: then it has found a mistake. The project's own errors are what a reader is meant to raise,
so they are caught in it; everything else is not. Hypothesis feeds them in `test_targets`, atheris in `__main__`.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
SEEDS: dict[str, list[bytes]] = {}


def target(*seeds: bytes) -> Callable[[Target], Target]:
    """Register a target under its name, with input that is right."""

    def register(function: Target) -> Target:
        assert function.__name__ not in TARGETS
        TARGETS[function.__name__] = function
        SEEDS[function.__name__] = list(seeds)
        return function

    return register


@contextmanager
def folder() -> Iterator[Path]:
    """A directory, in memory where there is one and nobody wants it elsewhere."""
    memory = "/dev/shm" if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="fuzz", dir=memory))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def quiet() -> Iterator[None]:
    """Without a log: what is wrong with garbage is of no interest."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def opened(data: bytes) -> Iterator[int]:
    """The bytes as a file, by its descriptor."""
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------------------------------------------- JSON

MOST = 16  # changes to one document
ODD = (
    None, True, False, 0, -1, 1.5, 1e300, 1 << 63, 10**400, "", "x", "0" * 16, "\x1b[2J\n", "\ud800", "/../..",
    "9" * 5000, "2026-01-01T00:00:00", [], [1], [[]], {}, {"a": 1},
)  # fmt: skip


def said(right: Any, data: bytes) -> bytes:
    """The bytes as JSON text or, with a zero first, JSON that is right but for the changes that they stand for.

    Of two bytes each the first says which value, the second what becomes of it: one of `ODD`, or nothing.
    """
    if data[:1] != b"\0":
        return data
    tree = {"": copy.deepcopy(right)}
    for at in range(1, min(len(data) - 1, 2 * MOST), 2):
        places = list(_places(tree))
        holder, key = places[data[at] % len(places)]
        which = data[at + 1] % (len(ODD) + 1)
        if which < len(ODD):
            holder[key] = copy.deepcopy(ODD[which])
        elif holder is not tree:
            del holder[key]
    return json.dumps(tree[""]).encode()


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in a document, by what holds it."""
    items = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
    for key, value in items:
        yield holder, key
        if isinstance(value, (dict, list)):
            yield from _places(value)
