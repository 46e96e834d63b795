"""Plain tables, as they are read on a terminal and cut by awk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with the columns one below the other, two spaces between them; control characters are shown escaped."""
    shown = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def plain(text: str) -> str:
    """What came from another machine, or names a file, must not move the cursor."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
