"""Streams that real LiteFS sent: CASE.bin with CASE.json in the folder of golden vectors."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("LITEFS_GOLDEN", Path(__file__).parents[3] / "shared" / "golden")) / "stream"

CASES = sorted(path.stem for path in FOLDER.glob("*.json")) if FOLDER.is_dir() else []

needs_golden = pytest.mark.skipif(not CASES, reason=f"no golden vectors in {FOLDER}")


@dataclass(frozen=True)
class Case:
    """One recorded answer to POST /stream."""

    body: bytes
    recorded: dict[str, Any]

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames as the recorder decoded them."""
        return list(self.recorded["frames"])


def load(name: str) -> Case:
    """The case of that name."""
    recorded = json.loads((FOLDER / f"{name}.json").read_text())
    return Case((FOLDER / recorded["body_file"]).read_bytes(), recorded)
