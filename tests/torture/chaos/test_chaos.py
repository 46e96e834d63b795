"""Random SQL by several processes on several databases, while random things happen: see `stage`.

`--torture-rounds 200` for the long form; the seed is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.disks import CannotMount, RealDisk, SmallDisk, real_disk, small_disk
from tests.support.nodes import Node

from .stage import Stage

MakeNode = Callable[..., Node]
pytestmark = pytest.mark.slow
KEEP = {"retention": "24h"}  # all LTX files, so that replaying them gives the database
SIZES = {"memory": 96 << 20, "real": 256 << 20}  # bytes
EXPECTED = [
    "the client process of the mount has ended",
    "No space left on device",
    "Input/output error",
    "cannot make transactions durable",
    "without a rollback journal",  # of a writer whose journal could not be written
]


@contextmanager
def disk_of(kind: str, path: Path) -> Iterator[SmallDisk | RealDisk]:
    try:
        with small_disk(path, SIZES[kind]) if kind == "memory" else real_disk(path, SIZES[kind]) as disk:
            yield disk
    except CannotMount as error:
        pytest.skip(f"cannot mount a disk: {error}")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--torture-rounds") or os.environ.get("LITEFS_TORTURE_ROUNDS", 1))


@pytest.mark.parametrize("kind", ["memory", "real"])
def test_whatever_happens(
    make_node: MakeNode, tmp_path: Path, rounds: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with disk_of(kind, tmp_path / "disk") as disk:
        primary = make_node("primary", settings={"data": {"dir": str(disk.path / "data"), **KEEP}})
        primary.data = disk.path / "data"
        primary.expected += EXPECTED
        primary.start()
        replica = make_node("replica", primary=primary, settings={"data": KEEP}).start()
        seed = int.from_bytes(os.urandom(4))
        try:
            with closing(Stage(primary, replica, disk, tmp_path, seed)) as stage:
                try:
                    for _ in range(rounds):
                        stage.round()
                finally:
                    with capsys.disabled():
                        print(f"\n{kind}, seed {seed}: {dict(stage.counts)}", flush=True)
            assert replica.stop() == 0
            assert primary.stop() == 0
        finally:
            replica.destroy()
            primary.destroy()
