"""What follows from where a database and its backup are."""

from __future__ import annotations

import pytest

from litefs.backup.rules import Decision, Step, decide
from litefs.ltx import EMPTY, Pos

NOWHERE = Pos(0, 0)


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (NOWHERE, NOWHERE, Decision(Step.NOTHING)),
        (Pos(5, 1), Pos(5, 1), Decision(Step.NOTHING)),
        (Pos(5, 1), NOWHERE, Decision(Step.SNAPSHOT)),
        (Pos(5, EMPTY), NOWHERE, Decision(Step.NOTHING)),
        (Pos(5, 1), Pos(4, 1), Decision(Step.FILES)),
        (NOWHERE, Pos(5, 1), Decision(Step.RESTORE, "no-local")),
        (Pos(4, 1), Pos(5, 1), Decision(Step.RESTORE, "remote-ahead")),
        (Pos(5, 2), Pos(5, 1), Decision(Step.RESTORE, "chksum-mismatch")),
    ],
)
def test_decisions(local: Pos, remote: Pos, expected: Decision) -> None:
    assert decide(local, remote) == expected
