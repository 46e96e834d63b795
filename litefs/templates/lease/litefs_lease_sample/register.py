"""The shared place: one record, which is replaced only by who has seen its present version.

TODO: put your backend here. Whatever has a compare-and-swap will do: etcd, DynamoDB, a row in PostgreSQL, an object in
a store with conditional writes. The SQLite file below makes the plugin work from the start, for nodes on one machine.

Everything here blocks; `SampleLeaser` calls it in threads.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass

from litefs.leases import LeaseUnavailable, PrimaryInfo

PATIENCE = 2.0
"""Seconds to wait for another node that changes the record; it needs milliseconds."""


@dataclass(frozen=True)
class Record:
    """What nodes agree on.  ``expires`` is wall-clock time in seconds; no id means that nobody holds the lease."""

    id: str = ""
    hostname: str = ""
    advertise_url: str = ""
    expires: float = 0.0
    cluster_id: str = ""

    @property
    def holder(self) -> PrimaryInfo:
        """Who holds it, or held it last."""
        return PrimaryInfo(self.hostname, self.advertise_url)


class Register:
    """Access to the record.  Every method raises LeaseUnavailable where the backend does not answer.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> tuple[int, Record]:
        """The version and the content of the record; version 0 and an empty one at first."""
        with self._open() as db:
            return self._read(db)

    def swap(self, version: int, record: Record) -> bool:
        """Replace the record if its version is still this one; whether it was."""
        with self._open() as db:
            db.execute("begin immediate")
            if self._read(db)[0] != version:
                return False
            db.execute("replace into lease values (1, ?, ?)", (version + 1, json.dumps(asdict(record))))
            db.execute("commit")
            return True

    def _read(self, db: sqlite3.Connection) -> tuple[int, Record]:
        row = db.execute("select version, record from lease").fetchone()
        return (row[0], Record(**json.loads(row[1]))) if row else (0, Record())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)) as db:
                db.execute("create table if not exists lease (id integer primary key, version integer, record text)")
                yield db
        except sqlite3.Error as error:
            raise LeaseUnavailable(f"{self._path}: {error}") from error
