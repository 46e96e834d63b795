"""Where the golden WAL files are."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(os.environ.get("LITEFS_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden") / "wal"


@dataclass
class GoldenWal:
    """A database, its log and its wal-index as SQLite left them."""

    name: str

    def load(self, suffix: str) -> bytes:
        path = GOLDEN / f"{self.name}.{suffix}"
        packed = path.with_name(path.name + ".gz")
        return path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())

    @property
    def facts(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((GOLDEN / f"{self.name}.json").read_text())
        return data


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        metafunc.parametrize("golden", _golden_parameters())


def _golden_parameters() -> list[Any]:
    names = sorted(path.stem for path in GOLDEN.glob("*.json"))
    if names:
        return [pytest.param(GoldenWal(name), id=name) for name in names]
    reason = f"no golden WAL files in {GOLDEN}; set LITEFS_GOLDEN to the folder that has them"
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
