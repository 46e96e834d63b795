"""The head of a database: where it stands, and the files that nodes sent and nothing has merged yet.

It is the one object of a database that changes, and it changes only if it is what the writer has seen. So of two
primaries that believe to be alone, one is refused. ``epoch`` grows with each node that becomes primary: a node that
finds a greater one than its own has been replaced.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from litefs import jsontext
from litefs.errors import LTXError
from litefs.ltx import Pos
from litefs_backup_store.entries import Entry, folder_name, parse
from litefs_backup_store.objects import StorageError

FORMAT = 1
PREFIX = "heads/"
NOWHERE = Pos(0, 0)


@dataclass(frozen=True, slots=True)
class Head:
    """The head.

    Attributes:
        database: name.
        pos: newest position; (0, 0) before the first file.
        epoch: of the last writer.
        timestamp: of the newest transaction, ms since the epoch.
        page_size, commit: bytes a page, and pages; 0 for a deleted database.
        tail: keys of the files that nodes sent, oldest first.
    """

    database: str
    pos: Pos = NOWHERE
    epoch: int = 0
    timestamp: int = 0
    page_size: int = 0
    commit: int = 0
    tail: tuple[str, ...] = ()

    @property
    def sent(self) -> list[Entry]:
        """The files of `tail`."""
        return [entry for key in self.tail if (entry := parse(key)) is not None]

    def encode(self) -> bytes:
        """As it is stored."""
        content = {
            "format": FORMAT,
            "database": self.database,
            "pos": str(self.pos),
            "epoch": self.epoch,
            "timestamp": self.timestamp,
            "pageSize": self.page_size,
            "commit": self.commit,
            "tail": self.tail,
        }
        return json.dumps(content).encode()

    @classmethod
    def decode(cls, data: bytes, key: str) -> Head:
        """Read what `encode` wrote. Raises StorageError."""
        try:
            content: dict[str, Any] = jsontext.loads(data)
            if content["format"] != FORMAT:
                raise StorageError(f"{key} has format {content['format']}: a newer version wrote it")
            return cls(
                str(content["database"]),
                Pos.parse(str(content["pos"])),
                int(content["epoch"]),
                int(content["timestamp"]),
                int(content["pageSize"]),
                int(content["commit"]),
                tuple(map(str, content["tail"])),
            )
        except (ValueError, KeyError, TypeError, LTXError) as error:
            raise StorageError(f"{key} is damaged: {error}") from error

    def without(self, keys: set[str]) -> Head:
        """The head without some files of its tail."""
        return replace(self, tail=tuple(key for key in self.tail if key not in keys))


def key_of(database: str) -> str:
    """The head's key."""
    return f"{PREFIX}{folder_name(database)}.json"
