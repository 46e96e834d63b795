"""Every error that litefs raises on purpose.

The classes are split by whose fault it is: the user's configuration, a peer's or a disk's bytes, or the state of
this node. A message names the culprit; ``hint`` says what to do next.
"""

from __future__ import annotations


class LitefsError(Exception):
    """Base of all errors raised by litefs.

    Args:
        message: one sentence that names the culprit.
        hint: the next step for the reader, or empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class ConfigError(LitefsError):
    """litefs.yml, a flag or an environment variable is wrong."""

    exit_code = 2


class PluginError(LitefsError):
    """A plugin could not be loaded or broke its contract; the message names its distribution."""


class MountError(LitefsError):
    """The FUSE mount could not be made or removed."""


class LTXError(LitefsError):
    """Bytes that should be an LTX file are not one; the message says where and why."""


class FormatError(LitefsError):
    """Bytes that should be a SQLite file (database, WAL, wal-index, journal) are not one."""


class StreamError(LitefsError):
    """A replication stream broke the protocol, or the peer refused it."""


class LeaseError(LitefsError):
    """A lease could not be taken, renewed or released."""


class StoreError(LitefsError):
    """Base of errors about the databases of this node."""


class DatabaseNotFound(StoreError):
    """No database of that name is known here."""

    def __init__(self, name: str) -> None:
        super().__init__(f'database not found: "{name}"')
        self.name = name


class BadName(StoreError):
    """A string that cannot name a database: empty, a path, or one of the mount's reserved names."""


class ReadOnly(StoreError):
    """This node is not the primary, or its lease is over: nothing may be written."""


class PositionMismatch(StoreError):
    """A transaction does not follow the database's present position."""


class DatabaseBusy(StoreError):
    """Applications kept a lock past the time limit."""


class CorruptDatabase(StoreError):
    """A database's files contradict each other and could not be reconciled."""


class HaltError(StoreError):
    """The halt lock could not be had, or is not held by who wants to write."""
