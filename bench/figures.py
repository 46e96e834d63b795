"""What was measured, what was hoped for, and the table of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

NATIVE, OURS, LITEFS = "native", "ours", "LiteFS"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure of ours should reach.

    Attributes:
        against: compare with this contestant, as times as good; "" = the figure itself.
        value: least factor, or, for the figure itself, the limit.
    """

    against: str
    value: float


@dataclass(slots=True)
class Figure:
    """One number for each contestant and round.

    Attributes:
        title: what it is.
        unit: a key of `UNITS`.
        more: whether more is better.
        samples: contestant -> one value a round, in the order of rounds.
        worst: whether the worst value has to reach the target, rather than the median.
    """

    title: str
    unit: str
    more: bool = False
    target: Target | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)
    worst: bool = False

    def add(self, contestant: str, value: float) -> None:
        """Another round's value."""
        self.samples.setdefault(contestant, []).append(value)

    def ratios(self, against: str) -> list[float]:
        """How many times as good ours is as another contestant, round by round: both saw the same weather."""
        pairs = zip(self.samples.get(OURS, []), self.samples.get(against, []), strict=False)
        return [(ours / other if self.more else other / ours) for ours, other in pairs if ours and other]

    def reached(self) -> bool | None:
        """Whether the target is reached; None without one, or without what it compares with."""
        if self.target is None or not self.samples.get(OURS):
            return None
        if not self.target.against:
            values = self.samples[OURS]
            value = (min if self.more else max)(values) if self.worst else median(values)
            return value >= self.target.value if self.more else value <= self.target.value
        ratios = self.ratios(self.target.against)
        return median(ratios) >= self.target.value if ratios else None

    def target_text(self) -> str:
        """The target in words."""
        if self.target is None:
            return ""
        if self.target.against:
            return f"≥ {self.target.value:g}x {self.target.against}"
        return f"{'≥' if self.more else '≤'} {UNITS[self.unit](self.target.value)}"


def _rate(value: float) -> str:
    return f"{value:,.0f}/s"


def _milliseconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 0.1 else f"{value * 1e3:.0f} ms"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"


UNITS: dict[str, Callable[[float], str]] = {
    "rate": _rate,
    "ms": _milliseconds,
    "s": _seconds,
    "bytes": _megabytes,
    "ratio": "{:.2f}".format,
    "count": "{:.0f}".format,
}

_HEADINGS = ("figure", NATIVE, OURS, LITEFS, "ours/native", "ours/LiteFS", "target", "")


def _values(figure: Figure, contestant: str) -> str:
    values, show = figure.samples.get(contestant), UNITS[figure.unit]
    if not values:
        return ""
    if len(values) == 1:
        return show(values[0])
    return f"{show(median(values))} ({show(min(values))}-{show(max(values))})"


def _ratio(figure: Figure, against: str) -> str:
    ratios = figure.ratios(against)
    if not ratios:
        return ""
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}x"
    return f"{median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def cells(figure: Figure) -> tuple[str, ...]:
    """A row of the table."""
    verdict = {True: "reached", False: "MISSED", None: ""}[figure.reached()]
    return (
        figure.title,
        *(_values(figure, contestant) for contestant in (NATIVE, OURS, LITEFS)),
        *(_ratio(figure, against) for against in (NATIVE, LITEFS)),
        figure.target_text(),
        verdict,
    )


def line(figure: Figure) -> str:
    """One figure as text, as soon as it is there."""
    parts = [f"{name} {text}" for name, text in zip(_HEADINGS[1:6], cells(figure)[1:6], strict=True) if text]
    target = figure.target_text()
    end = f" [target {target}: {cells(figure)[7] or 'nothing to compare with'}]" if target else ""
    return f"{figure.title}: {', '.join(parts)}{end}"


def markdown(figures: Iterable[Figure]) -> str:
    """The whole table; columns that are empty throughout are left out."""
    rows: list[Sequence[str]] = [_HEADINGS, *map(cells, figures)]
    used = [number for number in range(len(_HEADINGS)) if any(row[number] for row in rows[1:])]
    lines = ["| " + " | ".join(row[number] for number in used) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(used))
    return "\n".join(lines)
