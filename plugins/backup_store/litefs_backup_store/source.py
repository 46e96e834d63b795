"""What ``litefs backup`` reads from: a vault, or what another distribution knows to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, BinaryIO, Protocol

from litefs.ltx import Pos

if TYPE_CHECKING:
    from litefs.config import BackupConfig
    from litefs_backup_store.vault import Vault

GROUP = "litefs.backup_sources"
"""Entry points of this group are named after a backup type; each is a function from its `BackupConfig` to `Source`."""


@dataclass(frozen=True, slots=True)
class Held:
    """A database in a backup.

    Attributes:
        time: of the newest transaction, ms since the epoch; 0 where that is not known.
        size: bytes of the database, 0 for a deleted one; None where that is not known.
    """

    name: str
    pos: Pos
    time: int = 0
    size: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A state that can be restored; its time in ms since the epoch."""

    txid: int
    time: int


@dataclass(frozen=True, slots=True)
class States:
    """Those of a database, the oldest first.

    Attributes:
        found: all of them, or, of a source that tells no more, the oldest and the newest.
        complete: whether there are no others.
        table: rows for people about what is kept, the first one with headings; may be empty.
    """

    found: Sequence[State]
    complete: bool = True
    table: Sequence[Sequence[str]] = ()


class Source(Protocol):
    """A backup to read. All of it blocks; every method raises BackupError."""

    @property
    def url(self) -> str:
        """Where it is, without secrets."""

    def databases(self) -> list[Held]:
        """Every database, by name."""

    def states(self, name: str) -> States:
        """What can be restored of a database. Raises DatabaseRefused when there is no such database."""

    def restore(self, name: str, output: BinaryIO, *, txid: int = 0, timestamp: int = 0) -> None:
        """Write a snapshot LTX file of a state, by default the newest. Raises DatabaseRefused without such a state."""

    def size(self, name: str) -> int:
        """Bytes that `check` will read; 0 where that is not known."""

    def check(self, name: str, progress: Callable[[int], object]) -> Iterator[str]:
        """Read all of a database's backup that can be read; what is wrong with it.

        Args:
            progress: told how many bytes more were read.
        """

    def close(self) -> None:
        """Free connections."""


def open_source(config: BackupConfig) -> Source:
    """The backup that the ``backup`` section of a litefs.yml names. Raises ConfigError when it names none."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if config.type in found:
        opener: Callable[[BackupConfig], Source] = found[config.type].load()
        return opener(config)
    from litefs_backup_store.opening import open_objects
    from litefs_backup_store.vault import Vault

    return VaultSource(Vault(open_objects(config, others=found)))


LEVELS = {0: "each upload", 1: "10 seconds", 2: "5 minutes", 3: "1 hour", 9: "whole database"}


class VaultSource:
    """A `Source` over a vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    @property
    def url(self) -> str:
        """Where the vault is."""
        return self._vault.objects.url

    def databases(self) -> list[Held]:
        """From their heads."""
        heads = sorted((head for head in self._vault.heads() if head.pos.txid), key=lambda head: head.database)
        return [Held(head.database, head.pos, head.timestamp, head.page_size * head.commit) for head in heads]

    def states(self, name: str) -> States:
        """All that files lead to."""
        from litefs_backup_store import plan
        from litefs_backup_store.vault import DatabaseUnknown

        files = self._vault.files(name)
        ways = plan.reachable(files)
        if not ways:
            raise DatabaseUnknown(name)
        states = sorted({(pos.txid, entry.timestamp) for pos, entry in ways.items()})
        return States([State(*state) for state in states], table=self._table(name))

    def _table(self, name: str) -> list[Sequence[str]]:
        from litefs_backup_store.texts import show_size, show_time

        rows: list[Sequence[str]] = [("STATES EVERY", "FILES", "SIZE", "FROM", "TO", "TXIDS")]
        files = self._vault.files(name)
        for level, text in LEVELS.items():
            mine = sorted((entry for entry in files if entry.level == level), key=lambda entry: entry.max_txid)
            if mine:
                size = sum(entry.size for entry in mine)
                rows.append(
                    (
                        text,
                        str(len(mine)),
                        show_size(size) if size else "-",
                        show_time(mine[0].timestamp),
                        show_time(mine[-1].timestamp),
                        f"{mine[0].min_txid:x}-{mine[-1].max_txid:x}",
                    )
                )
        return rows

    def restore(self, name: str, output: BinaryIO, *, txid: int = 0, timestamp: int = 0) -> None:
        """From the files that lead there."""
        self._vault.restore(name, output, txid=txid, timestamp=timestamp, compress=False)

    def size(self, name: str) -> int:
        """Of all files."""
        return sum(entry.size for entry in self._vault.files(name))

    def check(self, name: str, progress: Callable[[int], object]) -> Iterator[str]:
        """Every file, and every level."""
        from litefs_backup_store.checking import check

        yield from (finding.what for finding in check(self._vault, name, progress))

    def close(self) -> None:
        """Free connections."""
        self._vault.objects.close()
