"""Placeholder until the manager is in: no plugin commands."""

from __future__ import annotations

from litefs.extensions import CommandSpec


class Plugins:
    """Installed plugins."""

    commands: dict[str, CommandSpec] = {}  # noqa: RUF012


def load() -> Plugins:
    """The installed plugins."""
    return Plugins()
