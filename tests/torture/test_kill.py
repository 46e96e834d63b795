"""kill -9, again and again: see `arena`. `--torture-rounds 100` for the long form."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.nodes import Node

from .arena import Arena

MakeNode = Callable[..., Node]
pytestmark = pytest.mark.slow
KEEP = {"data": {"retention": "24h"}}  # all LTX files, so that replaying them gives the database


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--torture-rounds") or os.environ.get("LITEFS_TORTURE_ROUNDS", 2))


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("victims", ["daemon,writer", "daemon,writer,replica,client,writer+daemon"])
def test_nothing_acknowledged_is_lost(
    make_node: MakeNode, tmp_path: Path, rounds: int, mode: str, victims: str, capsys: pytest.CaptureFixture[str]
) -> None:
    primary = make_node("primary", settings=KEEP).start()
    primary.expected.append("the client process of the mount has ended")
    replica = make_node("replica", primary=primary, settings=KEEP).start()
    seed = int.from_bytes(os.urandom(4))
    with closing(Arena(primary, replica, tmp_path, mode, seed)) as arena:
        try:
            for _ in range(rounds):
                arena.round(victims.split(","))
        finally:
            with capsys.disabled():
                print(f"\n{mode}, seed {seed}: {dict(arena.counts)}")
    assert primary.stop() == 0
    assert replica.stop() == 0


@pytest.mark.parametrize("mode", ["truncate", "persist", "exclusive"])
def test_other_modes(make_node: MakeNode, tmp_path: Path, rounds: int, mode: str) -> None:
    primary = make_node("primary", settings=KEEP).start()
    with closing(Arena(primary, None, tmp_path, mode, 1)) as arena:
        for _ in range(rounds):
            arena.round(["daemon", "writer"])
    assert primary.stop() == 0
