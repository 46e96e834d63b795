"""Figures kept in a file: to be drawn, and to find out when we fall behind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from bench.figures import NATIVE, Figure, Target

NOISE = 0.1
"""Share by which even the best round has to be below the worst recorded one: below that it is weather."""


def save(figures: Iterable[Figure], where: str, path: Path) -> None:
    """Write figures to a file, in place of those with the same title; the others stay.

    Args:
        where: what they were measured on.
    """
    kept = {figure.title: figure for figure in load(path)} if path.exists() else {}
    kept.update((figure.title, figure) for figure in figures)
    record = {"where": where, "figures": [asdict(figure) for figure in kept.values()]}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> list[Figure]:
    """What `save` wrote.

    Raises:
        OSError, ValueError, KeyError, TypeError: it cannot be read.
    """
    return [_figure(item) for item in json.loads(path.read_text())["figures"]]


def _figure(item: Mapping[str, object]) -> Figure:
    values = dict(item)
    target = values.pop("target")
    return Figure(**values, target=None if target is None else Target(**target))  # type: ignore[arg-type]


def behind(now: Iterable[Figure], then: Iterable[Figure]) -> list[str]:
    """What is slower, next to native SQLite, than it was recorded, by more than noise; a line each."""
    recorded = {figure.title: figure.ratios(NATIVE) for figure in then}
    found = []
    for figure in now:
        before, after = recorded.get(figure.title), figure.ratios(NATIVE)
        if before and after and is_behind(after, before):
            found.append(
                f"{figure.title}: {median(after):.2f}x native ({min(after):.2f}-{max(after):.2f}), "
                f"recorded {median(before):.2f}x ({min(before):.2f}-{max(before):.2f})"
            )
    return found


def is_behind(after: Sequence[float], before: Sequence[float]) -> bool:
    """Whether even the best round is worse than the worst of those before."""
    return max(after) < min(before) * (1 - NOISE)
