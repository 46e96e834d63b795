from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from litefs.mount.kernel import mounted_type
from tests.support.lease_file import installed
from tests.support.nodes import COMMAND

from . import cluster
from .cluster import Member


@pytest.fixture
def make_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Member]]:
    """Factory of nodes around one lease: `make_member("name", **lease)`. None of them is left behind."""
    if not COMMAND.exists():
        pytest.skip(f"the command is not installed: no {COMMAND}")
    monkeypatch.setenv("PYTHONPATH", str(installed(tmp_path)))
    nodes: list[Member] = []

    def make(name: str, **lease: Any) -> Member:
        nodes.append(cluster.member(tmp_path, name, **lease))
        return nodes[-1]

    yield make
    for node in reversed(nodes):
        node.destroy()
    assert not [node.mount for node in nodes if mounted_type(node.mount)], "mounts are left behind"
    surprises = {node.name: node.surprises() for node in nodes}
    assert not any(surprises.values()), f"unexpected errors in the log: {surprises}"
