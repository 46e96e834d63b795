"""SQL as an application runs it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any


def sql(path: str, *statements: str, timeout: float = 30.0) -> list[tuple[Any, ...]]:
    """Statements on a connection of their own, each a transaction; what the last one returns.

    Args:
        timeout: seconds to wait for locks.
    """
    rows: list[tuple[Any, ...]] = []
    with closing(sqlite3.connect(path, timeout=timeout, isolation_level=None)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows
