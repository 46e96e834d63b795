"""The backup's part of ``GET /status``."""

from __future__ import annotations

from datetime import UTC, datetime

from litefs.backup.progress import BackupStatistics, Verification

Json = dict[str, object]

SHOWN = 20
"""Databases that are not backed up, of which the reasons are given; there may be thousands."""


def as_json(found: BackupStatistics) -> Json:
    """All of it; times in UTC, with milliseconds."""
    return {
        "type": found.type,
        "url": found.url,
        "active": found.active,
        "lagTransactions": found.lag_transactions,
        "lagMs": int(found.lag_seconds * 1000),
        "uploads": found.uploads,
        "uploadBytes": found.upload_bytes,
        "restores": found.restores,
        "errors": found.errors,
        "lastUpload": _stamp(found.last_upload),
        "error": found.error,
        "lastError": found.last_error,
        "lastErrorTime": _stamp(found.last_error_time),
        "troubled": len(found.troubles),
        "troubles": dict(sorted(found.troubles.items())[:SHOWN]),
        "verification": _verification(found.verification),
    }


def _verification(found: Verification | None) -> Json | None:
    if found is None:
        return None
    return {
        "time": _stamp(found.time),
        "seconds": round(found.seconds, 3),
        "databases": found.databases,
        "count": found.count,
        "problems": list(found.problems),
    }


def _stamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
