"""Where the golden LTX files are, and small files to play with."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(os.environ.get("LITEFS_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden") / "ltx"


def _load(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@dataclass
class GoldenDatabase:
    """One directory of LTX files that Go LiteFS wrote, with what it said about them."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        return data

    @property
    def compressed(self) -> bool:
        return bool(self.manifest["data_compress"])

    def files(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield the manifest's entry and the bytes of each file, in TXID order."""
        for entry in self.manifest["files"]:
            path = self.path / "ltx" / entry["file"]
            yield entry, _load(path if path.exists() else path.with_name(path.name + ".gz"))

    def database(self) -> bytes | None:
        """The database file at the end; None where it was deleted or not stored."""
        for path in (self.path / "database", self.path / "database.gz"):
            if path.exists():
                return _load(path)
        return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        metafunc.parametrize("golden", _golden_parameters())


def _golden_parameters() -> list[Any]:
    directories = sorted(path.parent for path in GOLDEN.glob("*/manifest.json"))
    # The 1 GiB import has tests of its own.
    small = [path for path in directories if not path.name.startswith("lockpage")]
    if small:
        return [pytest.param(GoldenDatabase(path), id=path.name) for path in small]
    reason = f"no golden LTX files in {GOLDEN}; set LITEFS_GOLDEN to the folder that has them"
    return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


@pytest.fixture
def golden_lockpage() -> GoldenDatabase:
    path = GOLDEN / "lockpage-65536-lz4"
    if not path.exists():
        pytest.skip(f"no golden LTX files in {GOLDEN}; set LITEFS_GOLDEN to the folder that has them")
    return GoldenDatabase(path)
