"""What ``litefs status`` says of the cluster's backup: what the node says that writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from litefs.cli.survey import Json, NodeStatus


def backup_lines(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """A line for each node that writes a backup: one, as a rule."""
    for node, found in _writing(nodes):
        yield f"backup by {node.name} to {found.get('url') or found.get('type')}: {_state(found)}{_last(found)}"
        verified = found.get("verification")
        if isinstance(verified, dict):
            wrong = verified.get("count")
            yield f"backup verified {_ago(verified.get('time'))}: {f'{wrong} problems' if wrong else 'ok'}"


def backup_warnings(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """What somebody should look at."""
    for node, found in _writing(nodes):
        if found.get("error"):
            yield f"{node.name} cannot write the backup: {found['error']}"
        troubles = found.get("troubles")
        for name, reason in troubles.items() if isinstance(troubles, dict) else ():
            yield f'{node.name} does not back up "{name}": {reason}'
        verified = found.get("verification")
        problems = verified.get("problems") if isinstance(verified, dict) else None
        for problem in problems if isinstance(problems, list) else ():
            yield f"the backup is damaged: {problem}"


def _writing(nodes: Sequence[NodeStatus]) -> Iterator[tuple[NodeStatus, Json]]:
    for node in nodes:
        found = node.answer.get("backup")
        if isinstance(found, dict) and found.get("active"):
            yield node, found


def _state(found: Json) -> str:
    behind = found.get("lagTransactions")
    if found.get("error"):
        return "not working" + (f", {behind} transactions behind" if behind else "")
    if behind is None:
        return "not known yet"
    if not behind:
        return "up to date"
    lag = found.get("lagMs")
    since = f", {lag / 1000:.1f} s" if isinstance(lag, int) and abs(lag) < 1 << 63 else ""
    return f"{behind} transaction{'' if behind == 1 else 's'}{since} behind"


def _last(found: Json) -> str:
    return f", last upload {_ago(found['lastUpload'])}" if found.get("lastUpload") else ""


def _ago(stamp: object) -> str:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(str(stamp))).total_seconds()
    except (ValueError, TypeError):
        return str(stamp)
    if seconds < 120:
        return f"{max(0, seconds):.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"
