"""The alerts and the dashboard name metrics that there are, and documentation that there is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from litefs_proxy_fly.outcomes import Outcomes

from litefs.backup.metrics import BackupCollector
from litefs.backup.progress import BackupStatistics, Verification
from litefs.http.app import build
from tests.support.programs import find_program

from .fakes import FakeNode
from .server import Server

FOLDER = Path(__file__).parents[2] / "examples" / "monitoring"
LABELS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\b(?:by|on|group_right|group_left)\s*\([^)]*\)")
WORDS = {"and", "or", "unless", "Inf"}


def metrics(expression: str) -> set[str]:
    """The names of metrics in an expression of PromQL."""
    names = re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", LABELS.sub(" ", expression))
    return {name for name in names if name not in WORDS}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression of everything that is shown."""
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.fixture
def known(node: FakeNode, make_server: Any) -> set[str]:
    """What a node with everything has in /metrics."""
    verified = BackupStatistics(verification=Verification(0, 0, 0))
    node.services.collectors = [Outcomes(), BackupCollector(lambda: verified)]
    server: Server = make_server(build(node.services), closing=node.services.closing)
    with server.http1() as http:
        kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", http.get("/metrics").text, re.MULTILINE))
    parts = {
        f"{name}{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("_bucket", "_sum", "_count")
    }
    return set(kinds) | parts


def test_every_metric_exists(known: set[str]) -> None:
    for title, expression in [*((rule["alert"], rule["expr"]) for rule in rules()), *panels()]:
        assert metrics(expression) <= known | {"up"}, title


def test_the_dashboard_shows_every_metric_of_litefs(known: set[str]) -> None:
    shown = set().union(*(metrics(expression) for _, expression in panels()))
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} | shown
    left_out = {name for name in known if name.startswith("litefs_") and name not in bases} - {
        # In numbers of other panels, or of no use without comparison.
        *(name for name in known if re.search(r"_(sum|count|bucket)$", name)),
        "litefs_backup_failing",
        "litefs_backup_uploads_total",
        "litefs_backup_last_upload_timestamp_seconds",
        "litefs_backup_verified_timestamp_seconds",
        "litefs_backup_verified_seconds",
        "litefs_db_ltx_bytes",
    }
    assert not left_out


def test_every_alert_is_explained() -> None:
    page = (FOLDER.parents[1] / "docs" / "monitoring.md").read_text()
    assert {rule["alert"] for rule in rules()} == set(re.findall(r"^\| `(Litefs\w+)`", page, re.MULTILINE))
    assert all(
        rule["annotations"]["summary"] and rule["labels"]["severity"] in ("warning", "critical") for rule in rules()
    )


def test_the_check_finds_names() -> None:
    expression = 'max by (job, db) (a_b{x="c"}) - on (job) group_right () d > 0 unless changes(e[5m]) < +Inf'
    assert metrics(expression) == {"a_b", "d", "e"}


@pytest.mark.slow
def test_alerts_fire_when_they_should() -> None:
    promtool = find_program("promtool", "promtool", "PROMTOOL_BIN", "scripts/promtool", "promtool/usr/bin/promtool")
    words = [promtool, "test", "rules", str(FOLDER / "alerts.test.yml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire() -> None:
    tests = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules()}
