"""All targets, see `tests.fuzz.registry`."""

from __future__ import annotations

from tests.fuzz import clients, containers, kernel, services  # noqa: F401  # each registers its own
from tests.fuzz.registry import SEEDS, TARGETS, Target

__all__ = ["SEEDS", "TARGETS", "Target"]
