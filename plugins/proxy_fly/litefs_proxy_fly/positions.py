"""What clients have seen: positions of databases that go to them in cookies, and where those are that come back.

LiteFS's cookie ``__txid`` has the TXID of one database. Where ``proxy.db`` is a list there is a second one beside it,
``__txpos``, with an entry for each database, joined by ``.``::

    CRC-32 of the name - TXID - checksum of the database      8, 16 and 16 hex digits

A TXID is reached in any history that is long enough; a position with its checksum only in the one it was seen in. So
what is compared is the position, by the database's trail: a look into memory, whatever the database.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import trio

from litefs.errors import ConfigError, DatabaseNotFound
from litefs.ltx import Pos
from litefs.store.trail import Place
from litefs_proxy_fly import cookies

if TYPE_CHECKING:
    from litefs.store.database import Database
    from litefs.store.store import Store
    from litefs_proxy_fly.attributes import Attributes

log = logging.getLogger(__name__)

NAME = b"__txpos"
MOST = 16  # databases: browsers take cookies of 4096 bytes

_ENTRY = rb"[0-9a-f]{8}-[0-9a-f]{16}-[0-9a-f]{16}"
_VALUE = re.compile(rb"%b(?:\.%b){0,%d}" % (_ENTRY, _ENTRY, MOST - 1))


class Seen(NamedTuple):
    """What a client has seen.

    Args:
        txid: TXID of the first database, from LiteFS's cookie; 0 for none.
        positions: of databases by name.
    """

    txid: int
    positions: Sequence[tuple[str, Pos]] = ()


class Where(NamedTuple):
    """Where what a client has seen is, as this node sees it.

    Args:
        place: of the first position that is not here, or here.
        change: set when that may have changed; None where nobody tells.
        lost: whether it is in none but another history, if this node has all there is.
    """

    place: Place
    change: trio.Event | None = None
    lost: bool = False


class Positions:
    """The databases that count.

    Args:
        names: the first one is that of LiteFS's cookie.
        several: whether there is a second cookie, with the positions of all of them.
        attributes: of both cookies.

    Raises ConfigError for names that cannot be told apart, or too many of them.
    """

    def __init__(self, store: Store, names: Sequence[str], attributes: Attributes, *, several: bool) -> None:
        check(names)
        self._store = store
        self._names = names
        self._attributes = attributes
        self._by_key = {key(name): name for name in names} if several else {}

    def seen(self, lines: Iterable[bytes]) -> Seen | None:
        """What the cookies of a request say; None for nothing."""
        txid = cookies.position(lines)
        if not self._by_key:
            return Seen(txid) if txid else None
        positions = self._positions(cookies.value(lines, NAME))
        return Seen(txid, positions) if txid or positions else None

    def _positions(self, value: bytes) -> list[tuple[str, Pos]]:
        if not value or not _VALUE.fullmatch(value):
            return []
        found = []
        for entry in value.split(b"."):
            name = self._by_key.get(entry[:8])
            pos = Pos(int(entry[9:25], 16), int(entry[26:], 16))
            if name is not None and pos.txid:
                found.append((name, pos))
        return found

    async def where(self, seen: Seen) -> Where:
        """Where that is.

        A database that LiteFS's cookie is about and that does not exist here has nothing to wait for, as in LiteFS.
        """
        for name, pos in seen.positions:
            db = await self._database(name)
            if db is None:
                return Where(Place.AHEAD)
            moved, trail = db.moved, db.trail
            place, replaced = trail.look(pos), trail.replaced
            if place is Place.FORGOTTEN:
                place = await trail.search(pos)
            if place is not Place.HERE:
                return Where(place, moved if place is Place.AHEAD else replaced, lost=True)
        if seen.txid and (db := await self._database(self._names[0])) is not None and db.pos.txid < seen.txid:
            return Where(Place.AHEAD, db.moved)
        return Where(Place.HERE)

    def now(self) -> list[Pos | None]:
        """Where the databases that were used so far are."""
        found = map(self._store.opened, self._names)
        return [db.pos if db is not None else None for db in found]

    async def describe(self) -> str:
        """Where the first database is, for the log."""
        db = await self._database(self._names[0])
        return f"at txid {db.pos.txid:016x}" if db is not None else f'no database "{self._names[0]}"'

    async def cookies(self) -> bytes:
        """The lines that tell a client where the databases are now; none for what does not exist."""
        db = await self._database(self._names[0])
        lines = cookies.header(db.pos.txid, self._attributes) if db is not None else b""
        if not self._by_key:
            return lines
        found = [(each, await self._database(name)) for each, name in self._by_key.items()]
        entries = [b"%b-%016x-%016x" % (each, *db.pos) for each, db in found if db is not None and db.pos.txid]
        return lines + cookies.line(NAME, b".".join(entries), self._attributes) if entries else lines

    async def _database(self, name: str) -> Database | None:
        if (db := self._store.opened(name)) is not None:
            return db
        try:
            return await self._store.database(name)
        except DatabaseNotFound:
            return None
        except OSError as error:
            log.error("proxy: %s: cannot be used: %s", name, error)
            return None


def key(name: str) -> bytes:
    """What stands for a database in the cookie: as long for each, and not its name, which clients need not know."""
    return b"%08x" % crc32(name.encode())


def check(names: Sequence[str]) -> None:
    """Whether these can be the databases that count.  Raises ConfigError."""
    if len(names) > MOST:
        raise ConfigError(
            f"proxy.db: {len(names)} databases, at most {MOST} fit into a cookie", "name those that matter"
        )
    for at, name in enumerate(names):
        for other in names[:at]:
            if key(name) == key(other):
                raise ConfigError(f'proxy.db: "{name}" cannot be told from "{other}"', "remove one of them")
