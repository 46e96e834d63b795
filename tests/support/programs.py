"""Servers and tools that are programs of others: where they are on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

CACHE = Path(__file__).parents[2] / ".cache"


def find_program(what: str, name: str, variable: str, script: str, cached: str = "") -> str:
    """Where a program is. Skips the test where there is none; fails where CI is true.

    Args:
        what: people call it.
        name: on the PATH.
        variable: of the environment, with its path.
        script: gets it.
        cached: where that puts it, below `.cache`.
    """
    found = os.environ.get(variable) or shutil.which(name)
    if not found and cached and (CACHE / cached).exists():
        found = str(CACHE / cached)
    if not found:
        missing(f"there is no {what}: run {script}, or name {name} with {variable}")
    return found


def find_tool(name: str, purpose: str) -> str:
    """Where a program is that machines mostly have; without one it is as with `find_program`."""
    return shutil.which(name) or missing(f"{name} is not installed: {purpose}")


def missing(reason: str) -> NoReturn:
    """Skips the test for want of something that can be installed; where CI is true that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
