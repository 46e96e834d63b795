"""What happens to a request: the decisions of LiteFS's proxy, in its order."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from litefs.errors import DatabaseNotFound
from litefs.leases import PrimaryInfo
from litefs_proxy_fly import answers, cookies
from litefs_proxy_fly.answers import Answer
from litefs_proxy_fly.globs import Globs, path_of
from litefs_proxy_fly.heads import Request

if TYPE_CHECKING:
    from litefs.cluster.role import Role
    from litefs.config import ProxyConfig
    from litefs.store.database import Database
    from litefs.store.store import Store

log = logging.getLogger(__name__)

_INSTANCE = re.compile(rb"(?:^|[;,\s])instance=([^;,\s]+)")

HEALTH = b"/litefs/health"
POSITION_LIMIT = 5.0  # seconds that a read waits for the position its client has seen
SETTLE_LIMIT = 1.0  # seconds that a hand-over waits for writes under way
MOST_HOPS = 3  # proxies a request may pass through
WRITABLE_CHECK = 0.02  # seconds between looks whether a primary may write again, as in the middle of a hand-over


@dataclass(frozen=True, slots=True)
class Forward:
    """The application here gets the request.

    Args:
        cookie: whether the client is told the position afterwards.
        write: whether it is here because this node is the primary.
    """

    cookie: bool
    write: bool = False


@dataclass(frozen=True, slots=True)
class ToPrimary:
    """The primary's proxy gets the request.

    Args:
        primary: which node that is.
        redirect: whether the client is to go there itself.
    """

    primary: PrimaryInfo
    redirect: bool = False


Verdict = Forward | Answer | ToPrimary
V = TypeVar("V", Forward, Answer, ToPrimary)

PLAIN = Forward(cookie=False)
WRITE = Forward(cookie=True, write=True)
WRITE_BY_READING = Forward(cookie=False, write=True)  # a GET that is always forwarded; as LiteFS has it, no cookie


class Rules:
    """Decides about requests."""

    def __init__(self, config: ProxyConfig, store: Store, role: Role) -> None:
        self._store = store
        self._role = role
        self._name = config.db
        self._node = b"%016X" % store.node_id
        self._passthrough = Globs(config.passthrough)
        self._always_forward = Globs(config.always_forward)
        self._max_lag = config.max_lag * 1000 or math.inf
        self.redirect_timeout = config.primary_redirect_timeout
        self._redirect = config.keys["redirect"]
        self._sockets_to_primary = config.keys["websockets"] == "primary"
        self._debug = config.debug
        self._writing = 0
        self._written = trio.Event()

    @property
    def forwards(self) -> bool:
        """Whether requests may go on to another node's proxy."""
        return bool(self._redirect == "forward")

    def now(self, request: Request) -> Verdict | None:
        """The decision, where none has to be waited for.  Raises BadRequest."""
        path = path_of(request.target)
        if self._passthrough.match(path):
            return self._say(request, "matches passthrough expression, proxying to target", PLAIN)
        if path == HEALTH and request.method == b"GET":
            return self._health(request)
        if not self._is_write(request, path):
            if not cookies.position(request.cookies):
                return self._say(request, "no client txid, proxying to target", PLAIN)
            return None
        return self._write(request)

    async def later(self, request: Request) -> Verdict:
        """The decision about a request for which there was none yet."""
        if not self._is_write(request, path_of(request.target)):
            return await self._read(request)
        with trio.move_on_after(self.redirect_timeout):
            while (verdict := self._write(request)) is None:
                await self._role_or_right_changes()
            return verdict
        return self._say(request, "no primary available, returning 503", answers.NO_PRIMARY)

    async def position(self) -> int | None:
        """TXID of the database; None where it does not exist."""
        db = self._store.opened(self._name) or await self._database()
        return db.pos.txid if db is not None else None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A write is under way at the application."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
            if not self._writing:
                self._written.set()
                self._written = trio.Event()

    async def settle(self) -> None:
        """Wait until no write is under way, but not for long: new ones are held while the role is given away."""
        with trio.move_on_after(SETTLE_LIMIT):
            while self._writing:
                await self._written.wait()

    def replays(self, value: bytes) -> ToPrimary | None:
        """Where a Fly-Replay of the application leads, if that is ours to do: to the primary, elsewhere than on Fly."""
        primary = self._role.primary
        instance = _INSTANCE.search(value)
        if self._redirect != "forward" or primary is None or instance is None:
            return None
        return ToPrimary(primary) if instance[1] == primary.hostname.encode() else None

    # --------------------------------------------------------------------------------------------------------- kinds

    def _is_write(self, request: Request, path: bytes) -> bool:
        """What another node has sent here is for the primary, whatever its method."""
        if not request.is_read or request.hops or self._always_forward.match(path):
            return True
        return self._sockets_to_primary and bool(request.upgrade)

    def _health(self, request: Request) -> Answer:
        if (lag := self._role.lag_ms() or 0) > self._max_lag:
            return self._say(request, f"replication lag of {lag} ms exceeds the maximum", answers.LAGGING)
        return answers.HEALTHY

    async def _read(self, request: Request) -> Verdict:
        wanted = cookies.position(request.cookies)
        db = await self._database()
        if db is None:
            return self._say(request, f'no database "{self._name}", proxying to target', PLAIN)
        if await db.wait_position(wanted, POSITION_LIMIT):
            return self._say(request, f"at txid {db.pos.txid:016x}, proxying to target", PLAIN)
        return self._say(request, f"at txid {db.pos.txid:016x}, requires {wanted:016x}, proxy timeout", answers.STALE)

    def _write(self, request: Request) -> Verdict | None:
        """None while there is no primary, or this one may not write at the moment."""
        role = self._role
        if role.is_primary:
            if not self._store.writable or role.is_yielding:
                return None
            forward = WRITE_BY_READING if request.is_read and not request.hops else WRITE
            return self._say(request, "node is primary, proxying to target", forward)
        primary = role.primary
        if primary is None or not (primary.hostname.isprintable() and primary.hostname.isascii()):
            return None
        if self._redirect == "fly-replay":
            return self._say(request, f"primary is {primary.hostname}, replaying", answers.replay(primary.hostname))
        if len(request.hops) >= MOST_HOPS or self._node in request.hops:
            return None  # it has been here: who is primary is just changing
        redirect = self._redirect == "307"
        return self._say(request, f"primary is {primary.hostname}, sending it there", ToPrimary(primary, redirect))

    # ------------------------------------------------------------------------------------------------------- waiting

    async def _role_or_right_changes(self) -> None:
        """Return when the role has changed.  When this primary may write again is told by nobody: looked for."""
        with trio.move_on_after(WRITABLE_CHECK if self._role.is_primary else math.inf):
            await self._role.wait_change()

    async def _database(self) -> Database | None:
        try:
            return await self._store.database(self._name)
        except DatabaseNotFound:
            return None
        except OSError as error:
            log.error("proxy: %s: cannot be used: %s", self._name, error)
            return None

    def _say(self, request: Request, why: str, verdict: V) -> V:
        if self._debug:
            log.info("proxy: %s %s: %s", request.method.decode(), request.target.decode(errors="replace"), why)
        return verdict
