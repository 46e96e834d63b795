"""Waiting for something that another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.01  # seconds between looks
LIMIT = 60.0  # seconds; what takes a moment here takes half a minute on a machine with a slow disk and too much to do


def wait_for(condition: Callable[[], T], what: str, timeout: float = LIMIT) -> T:
    """Look until `condition` is true, or at most `timeout` seconds; what it returned.

    An `OSError` counts as not yet: files and connections of a node come and go with it.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            value = condition()
            if value:
                return value
            last = value
        except OSError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {timeout} s; last seen: {last!r}")
        time.sleep(INTERVAL)
