"""What has to happen with one database, given where it is and where its backup is: LiteFS's rules.

The backup is the authority. Whoever restored it, or was primary before us, has put there what counts; so where the two
do not continue each other the local state gives way, unless ``backup.on-mismatch`` says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from litefs.ltx import EMPTY, Pos


class Step(Enum):
    """The next step."""

    NOTHING = "nothing"
    FILES = "files"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, and for a restore LiteFS's word for why."""

    step: Step
    reason: str = ""


def decide(local: Pos, remote: Pos) -> Decision:
    """What the positions say; ``Pos(0, 0)`` where there is no such database. The files may still say otherwise."""
    if local == remote:
        return Decision(Step.NOTHING)
    if local.txid == 0:
        return Decision(Step.RESTORE, "no-local")
    if remote.txid == 0:
        # Deleted before anybody saved it: there is nothing to keep.
        return Decision(Step.NOTHING if local.checksum == EMPTY else Step.SNAPSHOT)
    if remote.txid > local.txid:
        return Decision(Step.RESTORE, "remote-ahead")
    if remote.txid == local.txid:
        return Decision(Step.RESTORE, "chksum-mismatch")
    return Decision(Step.FILES)
