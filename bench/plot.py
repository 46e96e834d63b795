"""``python -m bench.plot RECORD SVG``: draws how many times as good ours is as real LiteFS and as native SQLite.

A picture of bars on a logarithmic scale, one a figure and contestant, each with its spread. Nothing but text is needed
for that.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from statistics import median

from bench.figures import LITEFS, NATIVE, Figure
from bench.record import load

WIDTH, LEFT, RIGHT, ROW, TOP = 900, 380, 60, 22, 56
COLOURS = {LITEFS: "#2b6cb0", NATIVE: "#718096"}
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def svg(figures: Sequence[Figure]) -> str:
    """The picture."""
    rows = [(figure.title, against, ratios) for figure in figures for against, ratios in _comparisons(figure)]
    height = TOP + ROW * len(rows) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18">times as good as '
        f'<tspan fill="{COLOURS[LITEFS]}" font-weight="bold">LiteFS</tspan>, as '
        f'<tspan fill="{COLOURS[NATIVE]}" font-weight="bold">native SQLite</tspan>: median and spread</text>',
        *_scale(height),
    ]
    for number, (title, against, ratios) in enumerate(rows):
        lines += _bar(TOP + ROW * number, title, COLOURS[against], ratios)
    return "\n".join([*lines, "</svg>", ""])


def _comparisons(figure: Figure) -> Iterator[tuple[str, list[float]]]:
    for against in (LITEFS, NATIVE):
        if ratios := figure.ratios(against):
            yield against, ratios


def _x(ratio: float) -> float:
    low, high = math.log(TICKS[0]), math.log(TICKS[-1])
    share = (min(max(math.log(ratio), low), high) - low) / (high - low)
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _scale(height: int) -> Iterator[str]:
    for tick in TICKS:
        colour = "#000" if tick == 1 else "#ddd"
        yield f'<line x1="{_x(tick)}" x2="{_x(tick)}" y1="{TOP - 8}" y2="{height - 8}" stroke="{colour}"/>'
        yield f'<text x="{_x(tick)}" y="{TOP - 14}" text-anchor="middle" fill="#555">{tick:g}</text>'


def _bar(y: int, title: str, colour: str, ratios: Sequence[float]) -> Iterator[str]:
    middle, one = _x(median(ratios)), _x(1)
    centre = y + ROW // 2
    yield f'<text x="{LEFT - 8}" y="{centre + 4}" text-anchor="end">{escape(title)}</text>'
    yield (
        f'<rect x="{min(one, middle)}" y="{y + 4}" width="{max(1, abs(middle - one)):.1f}" height="{ROW - 8}" '
        f'fill="{colour}" fill-opacity="0.7"/>'
    )
    yield f'<line x1="{_x(min(ratios))}" x2="{_x(max(ratios))}" y1="{centre}" y2="{centre}" stroke="#000"/>'
    yield f'<text x="{max(one, _x(max(ratios))) + 4}" y="{centre + 4}" fill="#333">{median(ratios):.2g}</text>'


def main(arguments: Sequence[str]) -> int:
    """Exit code 2 for wrong arguments."""
    if len(arguments) != 2:
        print("usage: python -m bench.plot RECORD SVG", file=sys.stderr)
        return 2
    record, picture = map(Path, arguments)
    picture.write_text(svg(load(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
