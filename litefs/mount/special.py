"""The files of the mount that tell of the cluster: ``.primary``, ``.lag``, ``NAME-pos`` and ``NAME-lock``."""

from __future__ import annotations

from typing import Protocol

from litefs.store.database import Database

PRIMARY = ".primary"
LAG = ".lag"
NAMES = (PRIMARY, LAG)
UNKNOWN_LAG = b"+2147483647"  # eleven bytes, as the others; so there is no room for a newline
POSITION_SIZE = 34  # bytes of a ``NAME-pos``
MAX_LAG = 999_999_999  # ms: nine digits


class _Info(Protocol):
    @property
    def hostname(self) -> str: ...


class Role(Protocol):
    """What the mount shows of this node's part in the cluster."""

    @property
    def is_primary(self) -> bool:
        """Whether this node is the primary."""

    @property
    def primary(self) -> _Info | None:
        """Another node that is the primary; None when this one is, or none is known."""

    def lag_ms(self) -> int | None:
        """Milliseconds that this node is behind; None when it is not known."""


def content(name: str, role: Role) -> bytes | None:
    """What is in one of the files `NAMES`; None when it does not exist now."""
    return primary_text(role) if name == PRIMARY else lag_text(role)


def primary_text(role: Role) -> bytes | None:
    """Content of ``.primary``; None when it does not exist: here is the primary, or none is known."""
    return None if role.primary is None else role.primary.hostname.encode() + b"\n"


def lag_text(role: Role) -> bytes:
    """Content of ``.lag``: sign, nine digits of milliseconds behind the primary, newline."""
    lag = 0 if role.is_primary else role.lag_ms()
    if lag is None:
        return UNKNOWN_LAG
    return b"%+010d\n" % max(-MAX_LAG, min(MAX_LAG, lag))


def position_text(db: Database) -> bytes:
    """Content of ``NAME-pos``: position and newline, `POSITION_SIZE` bytes."""
    return str(db.pos).encode() + b"\n"
