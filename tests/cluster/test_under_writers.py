"""Hand-overs under writers, with real processes: nothing acknowledged is lost, nobody hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.waiting import wait_for

from .cluster import Member, Writer, make_table, wait_same

MODES = [("wal", "NORMAL"), ("wal", "FULL"), ("delete", "FULL")]
PROMPT = 1.5  # seconds; it takes a tenth of that when the machine has nothing else to do


@pytest.fixture
def pair(make_member: Callable[..., Member]) -> tuple[Member, Member]:
    """The primary, and another candidate."""
    a = make_member("a").start()
    b = make_member("b").start()
    assert a.is_primary
    return a, b


def stop(a: Member, b: Member) -> None:
    assert a.stop() == 0


def promote(a: Member, b: Member) -> None:
    b.post("/promote")


def demote(a: Member, b: Member) -> None:
    a.post("/demote")


@pytest.mark.slow
@pytest.mark.parametrize("how", [stop, promote, demote])
@pytest.mark.parametrize(("journal", "synchronous"), MODES)
def test_under_writers(
    pair: tuple[Member, Member], how: Callable[[Member, Member], None], journal: str, synchronous: str
) -> None:
    a, b = pair
    make_table(a, journal)
    with (
        Writer(a, f"synchronous = {synchronous}") as one,
        Writer(a, f"synchronous = {synchronous}", first=10**6) as two,
    ):
        one.wait_acked(50)
        two.wait_acked(5)
        with ThreadPoolExecutor() as pool:
            done = pool.submit(how, a, b)
            wait_for(lambda: b.is_primary, "primary b")
            now = time.monotonic()
            done.result()
        wait_for(lambda: one.errors and two.errors, "refused writes")
        acked = one.stop() | two.stop()
    refused = min(one.errors[0][0], two.errors[0][0])
    assert refused - max(acked.values()) < PROMPT, "writers hung"
    assert now - max(acked.values()) < PROMPT, "nobody was primary for too long"
    print(f"{now - max(acked.values()):.3f} s without a primary; refused after {refused - max(acked.values()):.3f} s")
    assert set(acked) <= set(b.rows())
    with Writer(b, first=2 * 10**6) as writer:
        writer.wait_acked(3)
        if how is not stop:
            wait_same_position(a, b, writer)
    if how is stop:
        a.start()
    wait_same(a, b)
    assert not (b.data / "branches").exists()
    assert not (a.data / "branches").exists(), "the old primary had something that its successor had not"


def wait_same_position(a: Member, b: Member, writer: Writer) -> None:
    writer.stop()
    wait_same(a, b)
