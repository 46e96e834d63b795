"""Random SQL by several processes on several databases, while random things happen: see `stage`.

`--torture-rounds 200` for the long form; the seed is printed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.support.disks import FailingDisk, SmallDisk, failing_disk, or_skip, small_disk
from tests.support.nodes import Node

from .stage import FAILED_SYNC, Stage

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
    FAILED_SYNC,
    "cannot be used",
    "Read-only file system",
    "cannot close cleanly",
    "its files do not lead to position",  # LTX files were not stored: the database file is ahead of them
]


def disk_of(kind: str, path: Path) -> AbstractContextManager[SmallDisk | FailingDisk]:
    return or_skip(small_disk(path, SIZES[kind]) if kind == "memory" else failing_disk(path, SIZES[kind]))


@contextmanager
def closed_below(directory: Path) -> Iterator[None]:
    """Nothing can be made in a mount point while nothing is mounted there, where the file system can say so.

    Writers that live through a restart would make their databases there, and have commits acknowledged by no node.
    """
    done = subprocess.run(["chattr", "+i", str(directory)], capture_output=True).returncode == 0
    try:
        yield
    finally:
        if done:
            subprocess.run(["chattr", "-i", str(directory)], check=True)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--torture-rounds") or os.environ.get("LITEFS_TORTURE_ROUNDS", 1))


@pytest.mark.parametrize("kind", ["memory", "real"])
def test_whatever_happens(
    make_node: MakeNode, tmp_path: Path, rounds: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(disk_of(kind, tmp_path / "disk"))
        primary = on_disk(make_node("primary", settings={"data": {"dir": str(disk.path / "data"), **KEEP}}), disk.path)
        stack.enter_context(closed_below(primary.mount))
        stack.callback(primary.destroy)
        primary.start()
        second = stack.enter_context(disk_of(kind, tmp_path / "second")) if kind == "real" else None
        place = second.path if second is not None else tmp_path / "replica"
        settings = {"data": {"dir": str(place / "data"), **KEEP}}
        replica = on_disk(make_node("replica", primary=primary, settings=settings), place).start()
        seed = int.from_bytes(os.urandom(4))
        try:
            with closing(Stage(primary, replica, disk, second, tmp_path, seed)) as stage:
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


def on_disk(node: Node, path: Path) -> Node:
    node.data = path / "data"
    node.expected += EXPECTED
    return node
