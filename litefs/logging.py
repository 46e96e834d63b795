"""The node's log: one line a record on stderr, as text or as JSON, in the shape LiteFS's lines have.

Text is logfmt as Go's ``log/slog`` writes it, ``level=INFO msg="LiteFS mounted to: /litefs"``: without the time unless
asked for, because journald and container runtimes stamp lines themselves. Modules log with the standard library's
``logging.getLogger(__name__)``; only the daemon calls :func:`configure`.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from typing import TextIO

LEVEL_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}


def configure(
    *, format: str = "text", timestamp: bool = False, debug: bool = False, stream: TextIO | None = None
) -> None:
    """Send every record of this process to ``stream`` (stderr by default), replacing earlier handlers.

    Args:
        format: ``text`` or ``json``.
        timestamp: put the local time, to the millisecond and with its offset, before each line.
        debug: let litefs's own DEBUG records through. Libraries stay at WARNING in any case.
        stream: where the lines go.
    """
    formatter: logging.Formatter = JSONFormatter(timestamp) if format == "json" else TextFormatter(timestamp)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("litefs").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.captureWarnings(True)
    logging.raiseExceptions = debug  # a closed stderr must not turn every record into a traceback


class _Formatter(logging.Formatter):
    def __init__(self, timestamp: bool) -> None:
        super().__init__()
        self.timestamp = timestamp

    def fields(self, record: logging.LogRecord) -> dict[str, str | float]:
        """What is said of a record, in the order in which it is printed; at last its own ``fields``, if it has any."""
        fields: dict[str, str | float] = {}
        if self.timestamp:
            fields["time"] = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        fields["level"] = LEVEL_NAMES.get(record.levelno, record.levelname)
        fields["msg"] = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error"] = f"{type(error).__name__}: {error}"
        fields.update(getattr(record, "fields", {}))
        return fields


class TextFormatter(_Formatter):
    """logfmt; the traceback of an unexpected exception follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line = " ".join(f"{key}={quote(str(value))}" for key, value in self.fields(record).items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JSONFormatter(_Formatter):
    """One JSON object a line; a traceback is its field ``traceback``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def quote(value: str) -> str:
    """``value`` as logfmt shows it: bare where it is one plain word, otherwise a quoted string with escapes."""
    if value and value.isprintable() and not any(character in ' "=' for character in value):
        return value
    return json.dumps(value, ensure_ascii=False)
