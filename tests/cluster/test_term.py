"""Terms: what is remembered, and when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from litefs.cluster.term import Terms
from litefs.replication.frames import MAX_TERM

CLUSTER = "LFSC0123456789ABCDEF"


def make(path: Path, *, cluster: str = CLUSTER, now: float = 0) -> Terms:
    return Terms(path, lambda: cluster, now=lambda: now)


def test_a_term_is_later_than_the_clock_and_than_all_that_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        assert await make(tmp_path, now=5).begin() == 5000
        terms = make(tmp_path, now=4)
        assert (terms.held, terms.seen) == (5000, 5000)
        assert await terms.begin() == 5001
        terms.heard(7000)
        assert terms.held == 5001
        assert await terms.begin() == 7001
        assert await make(tmp_path, now=8).begin() == 8000

    trio.run(main)


def test_what_is_learned_is_written_down(tmp_path: Path) -> None:
    async def main() -> None:
        terms = make(tmp_path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terms.keep)
            for call, term, expected in [
                (terms.heard, 7, (0, 7)),
                (terms.follow, 7, (7, 7)),
                (terms.follow, 5, (5, 7)),  # its data is that of 5 now
                (terms.follow, 0, (0, 7)),  # or of a primary without a term
            ]:
                call(term)
                assert (terms.held, terms.seen) == expected
                with trio.fail_after(60):
                    while (make(tmp_path).held, make(tmp_path).seen) != expected:
                        await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_term_is_one_of_a_cluster(tmp_path: Path) -> None:
    async def main() -> None:
        await make(tmp_path, now=5).begin()
        assert make(tmp_path, cluster="").held == 0
        assert make(tmp_path, cluster="LFSC0000000000000001").seen == 0

    trio.run(main)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"1",
        b"[" * 10**5,
        json.dumps({"cluster": CLUSTER, "held": -1, "seen": 1}).encode(),
        json.dumps({"cluster": CLUSTER, "held": "1", "seen": 1}).encode(),
        json.dumps({"cluster": CLUSTER, "held": 1, "seen": MAX_TERM + 1}).encode(),
    ],
    ids=lambda content: content[:40].decode(),
)
def test_an_unreadable_file_is_no_obstacle(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "term").write_bytes(content)
    terms = make(tmp_path)
    assert (terms.held, terms.seen) == (0, 0)
    assert "cannot be read" in caplog.text
