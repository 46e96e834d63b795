"""What is told of a backup: lag, counts and errors, as JSON, as metrics, and to people."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from litefs.backup.metrics import BackupCollector
from litefs.backup.progress import MARKS, Progress, Verification
from litefs.backup.status import as_json
from litefs.cli.safekeeping import backup_lines, backup_warnings
from litefs.cli.survey import NodeStatus
from litefs.ltx import Pos


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.progress = Progress(now=lambda: 1_700_000_000 + self.now, clock=lambda: self.now)

    def lag(self) -> tuple[int | None, float]:
        found = self.progress.statistics()
        return found.lag_transactions, found.lag_seconds


def pos(txid: int) -> Pos:
    return Pos(txid, txid << 8)


def begun() -> Clock:
    clock = Clock()
    clock.progress.begin("s3://bucket")
    clock.progress.looked({}, {})
    return clock


def test_the_lag_is_that_of_the_oldest_transaction_that_is_not_stored() -> None:
    clock = begun()
    assert clock.lag() == (0, 0)
    for second in (1, 2, 3):
        clock.now = second
        clock.progress.published("a.db", pos(second))
    clock.now = 10
    assert clock.lag() == (3, 9)
    clock.progress.stored("a.db", pos(2), pos(3), 100)
    assert clock.lag() == (1, 7)
    clock.progress.published("b.db", pos(1))
    clock.now = 11
    assert clock.lag() == (2, 8)
    clock.progress.stored("a.db", pos(3), pos(3), 100)
    assert clock.lag() == (1, 1)
    clock.progress.stored("b.db", pos(1), pos(1), 50)
    assert clock.lag() == (0, 0)
    found = clock.progress.statistics()
    assert (found.uploads, found.upload_bytes, found.last_upload) == (3, 250, 1_700_000_011)


def test_many_moments_are_remembered_less_exactly_and_never_as_younger() -> None:
    clock = begun()
    for second in range(1, 10 * MARKS):
        clock.now = second
        clock.progress.published("a.db", pos(second))
    for stored in (1, 100, 500, 600):
        clock.progress.stored("a.db", pos(stored), pos(10 * MARKS - 1), 1)
        transactions, seconds = clock.lag()
        assert transactions == 10 * MARKS - 1 - stored
        exact = clock.now - (stored + 1)
        assert exact <= seconds <= exact + 64


def test_before_the_backup_has_answered_nothing_is_known() -> None:
    clock = Clock()
    assert clock.lag() == (0, 0)  # somebody else's
    clock.progress.begin("s3://bucket")
    clock.now = 5
    assert clock.lag() == (None, 5)
    clock.progress.looked({"a.db": pos(7), "b.db": pos(1)}, {"a.db": pos(3), "b.db": pos(1), "c.db": pos(9)})
    clock.now = 6
    assert clock.lag() == (4, 1)
    clock.progress.restored("a.db")
    assert clock.lag() == (0, 0)
    clock.progress.published("a.db", pos(9))
    clock.progress.end()
    assert clock.lag() == (0, 0)


def test_errors_stay_until_something_works() -> None:
    clock = begun()
    clock.progress.failed("no answer")
    found = clock.progress.statistics()
    assert (found.error, found.last_error, found.errors) == ("no answer", "no answer", 1)
    clock.progress.looked({}, {})
    assert clock.progress.statistics().error
    clock.progress.stored("a.db", pos(1), pos(1), 1)
    found = clock.progress.statistics()
    assert (found.error, found.last_error, found.last_error_time) == ("", "no answer", 1_700_000_000)
    clock.progress.failed('"a.db": locked', passing=True)
    assert not clock.progress.statistics().error


def test_metrics() -> None:
    clock = begun()
    clock.progress.published("a.db", pos(1))
    clock.now = 2.5
    verified = Verification(1.7e9, 2.0, 3, ("a.db: bad",), 1)
    registry = CollectorRegistry()
    registry.register(BackupCollector(lambda: clock.progress.statistics("s3", verified)))
    text = generate_latest(registry).decode()
    for line in ("active 1.0", "lag_transactions 1.0", "lag_seconds 2.5", "failing 0.0", "uploads_total 0.0",
                 "verify_problems 1.0", "verified_timestamp_seconds 1.7e+09"):  # fmt: skip
        assert f"litefs_backup_{line}\n" in text, text


def told(progress: Progress, verified: Verification | None = None) -> NodeStatus:
    answer: dict[str, Any] = {"backup": json.loads(json.dumps(as_json(progress.statistics("s3", verified))))}
    return NodeStatus("http://a", hostname="a", role="primary", answer=answer)


def test_people_are_told() -> None:
    clock = begun()
    assert list(backup_lines([told(clock.progress)])) == ["backup by a to s3://bucket: up to date"]
    clock.progress.published("a.db", pos(1))
    clock.now = 1.25
    assert list(backup_lines([told(clock.progress)])) == ["backup by a to s3://bucket: 1 transaction, 1.2 s behind"]
    clock.progress.failed("no answer")
    clock.progress.troubles["b.db"] = "locked"
    node = told(clock.progress, Verification(0, 1.0, 1, ("a.db: bad",), 1))
    assert next(backup_lines([node])) == "backup by a to s3://bucket: not working, 1 transactions behind"
    assert list(backup_warnings([node])) == [
        "a cannot write the backup: no answer",
        'a does not back up "b.db": locked',
        "the backup is damaged: a.db: bad",
    ]
    clock.progress.end()
    assert list(backup_lines([told(clock.progress)])) == []
    assert list(backup_lines([NodeStatus("http://b", answer={"backup": 5})])) == []
