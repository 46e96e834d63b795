"""Changing the primary from the command line, and waiting until it has changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from litefs.cli.api import APIError, NodeAPI

T = TypeVar("T")

LIMIT = 30.0  # seconds from the consent of the primary until the change
POLL = 0.05  # seconds between two looks


def become_primary(node: NodeAPI) -> bool:
    """Make a node the primary and wait until it is; False where it was already.

    Raises:
        APIError: it may not, the primary refused, or nothing came of it.
    """
    info = node.info()
    if info["isPrimary"]:
        return False
    node.promote()
    if not _wait(lambda: node.info()["isPrimary"]):
        raise APIError(f"the primary agreed to hand over, but nothing came of it within {LIMIT:.0f} s", "see its log")
    return True


def step_down(node: NodeAPI, target: str) -> str:
    """Have the primary hand over and wait until another is primary; that one's host name, empty where there is none.

    Args:
        node: the primary.
        target: id of the node that shall take over; empty for the most advanced candidate.

    Raises:
        APIError: the node is not primary, or cannot hand over.
    """
    node.demote(target)
    found: str | None = _wait(lambda: _other_primary(node.info()))
    return found or ""


def _other_primary(info: dict[str, Any]) -> str:
    primary = info.get("primary")
    return str(primary.get("hostname", "")) if isinstance(primary, dict) and not info["isPrimary"] else ""


def _wait(condition: Callable[[], T]) -> T | None:
    """Look until the condition is true; what it was, None where the time ran out."""
    deadline = time.monotonic() + LIMIT
    while not (value := condition()):
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL)
    return value
