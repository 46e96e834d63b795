"""A small list that several processes change: one JSON object. All of it blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from litefs_backup_store.objects import ObjectChanged, ObjectMissing, Objects, StorageError

from litefs import jsontext

Items = list[dict[str, Any]]

TRIES = 10
"""Times that a change is tried when somebody else changes the list."""


class Listing:
    """The list: ``{"FIELD": [...]}`` under one key.

    Args:
        key: of the object.
        field: that holds the items.
    """

    def __init__(self, objects: Objects, key: str, field: str) -> None:
        self._objects = objects
        self._key = key
        self._field = field

    def items(self) -> Items:
        """All items; none where there is no such object. Raises StorageError."""
        return self._load()[0]

    def change(self, change: Callable[[Items], Items]) -> None:
        """Replace the items by what is made of them. Raises StorageError."""
        for _ in range(TRIES):
            items, version = self._load()
            new = change(items)
            if new == items:
                return
            try:
                self._objects.replace(self._key, json.dumps({self._field: new}, indent=1).encode(), version)
            except ObjectChanged:
                continue
            return
        raise StorageError(f"{self._key} is changed by others all the time")

    def _load(self) -> tuple[Items, str | None]:
        try:
            data, version = self._objects.get(self._key)
        except ObjectMissing:
            return [], None
        try:
            found: Items = jsontext.loads(data)[self._field]
            return [dict(item) for item in found], version
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{self._key} is damaged: {error}") from error
