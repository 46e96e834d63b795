"""The lease of a node that died while it was primary, for its next start."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


class KeptLease:
    """A file with the id of the lease that this node has; there as long as it leads.

    A node that finds it at its start died as primary. It alone has everything that was acknowledged, nobody else can
    have led since while the lease still names it, and the lock on its data directory shows that the process that held
    the lease is gone: so it takes the lease up again, instead of waiting until its own lease has run out.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def id(self) -> str | None:
        """What `Leaser.acquire_existing` needs; None when this node gave its last lease up in good order."""
        try:
            return self._path.read_text().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def save(self, lease_id: str) -> None:
        """This node leads. Best effort: without it a restart waits."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "w") as file:
                file.write(f"{lease_id}\n")
        except OSError as error:
            log.warning("%s: cannot be written: %s", self._path, error)

    def forget(self) -> None:
        """This node does not lead any more, or not with that lease."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: cannot be deleted, do it by hand: %s", self._path, error)
