"""Benchmarks that are kept: what counts as falling behind, and the picture."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.figures import LITEFS, NATIVE, OURS, Figure, Target
from bench.plot import svg
from bench.record import behind, load, save


def figure(title: str, ours: list[float], native: list[float]) -> Figure:
    found = Figure(title, "rate", more=True, target=Target(NATIVE, 0.9))
    found.samples = {OURS: ours, NATIVE: native, LITEFS: [value / 2 for value in ours]}
    return found


def test_kept_and_replaced_by_title(tmp_path: Path) -> None:
    path = tmp_path / "record"
    old, other = figure("reads", [90, 95], [100, 100]), figure("commits", [5], [100])
    save([old, other], "here", path)
    new = figure("reads", [80, 85], [100, 100])
    save([new], "here", path)
    assert load(path) == [new, other]


@pytest.mark.parametrize(
    ("ours", "fell"),
    [([90, 91], False), ([70, 95], False), ([81, 82], False), ([70, 79], True), ([50], True)],
)
def test_behind_means_every_round_is_worse_by_more_than_noise(ours: list[float], fell: bool) -> None:
    then = [figure("reads", [90, 95], [100, 100]), figure("gone", [1], [1])]
    found = behind([figure("reads", ours, [100] * len(ours)), figure("new", [1], [100])], then)
    assert bool(found) is fell
    if fell:
        assert found[0].startswith("reads: 0.")


def test_the_picture_shows_every_ratio() -> None:
    text = svg([figure("reads <1>", [90, 95], [100, 100]), Figure("nothing", "rate")])
    root = ElementTree.fromstring(text)
    shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert shown.count("reads <1>") == 2
    assert {"2", "0.93"} <= set(shown)
    assert "nothing" not in shown
