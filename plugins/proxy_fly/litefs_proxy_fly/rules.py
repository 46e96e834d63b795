"""What happens to a request: the decisions of LiteFS's proxy, in its order."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import trio

from litefs.leases import PrimaryInfo
from litefs.store.trail import Place
from litefs_proxy_fly import answers
from litefs_proxy_fly.answers import Answer
from litefs_proxy_fly.globs import Globs, path_of
from litefs_proxy_fly.heads import Request
from litefs_proxy_fly.positions import Positions, Where
from litefs_proxy_fly.replays import MOST_HOPS, Replays
from litefs_proxy_fly.underway import UnderWay

if TYPE_CHECKING:
    from litefs.cluster.role import Role
    from litefs.config import ProxyConfig
    from litefs.store.store import Store

log = logging.getLogger(__name__)

HEALTH = b"/litefs/health"
POSITION_LIMIT = 5.0  # seconds that a read waits for the position its client has seen
SETTLE_LIMIT = 1.0  # seconds that a hand-over waits for writes under way
POSITION_CHECK = 0.02  # seconds between looks for what nobody tells: a database that is new, a primary that is known
WRITABLE_CHECK = 0.02  # seconds between looks whether a primary may write again, as in the middle of a hand-over


@dataclass(frozen=True, slots=True)
class Forward:
    """The application here gets the request.

    Args:
        cookie: whether the client is told the position afterwards.
        write: whether it is here because this node is the primary.
        read: whether it is here because it only reads, as far as its method says.
    """

    cookie: bool
    write: bool = False
    read: bool = False


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
READ = Forward(cookie=False, read=True)
REPLAYED_READ = Forward(cookie=True, read=True)
WRITE = Forward(cookie=True, write=True)
WRITE_BY_READING = Forward(cookie=False, write=True)  # a GET that is always forwarded; as LiteFS has it, no cookie


class Rules:
    """Decides about requests.

    Attributes:
        positions: of the databases that count.
        writing: the writes that are under way at the application.
    """

    def __init__(self, config: ProxyConfig, store: Store, role: Role, positions: Positions) -> None:
        self._store = store
        self._role = role
        self.positions = positions
        self.replays = Replays(config, store, role)
        self._node = b"%016X" % store.node_id
        self._passthrough = Globs(config.passthrough)
        self._always_forward = Globs(config.always_forward)
        self._max_lag = config.max_lag * 1000 or math.inf
        self.redirect_timeout = config.primary_redirect_timeout
        self._redirect = config.keys["redirect"]
        self._sockets_to_primary = config.keys["websockets"] == "primary"
        self._debug = config.debug
        self.writing = UnderWay()

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
            if not self.positions.seen(request.cookies):
                return self._say(request, "no client txid, proxying to target", _read(request))
            return None
        if request.is_read and request.for_primary:
            return None
        return self._write(request)

    async def later(self, request: Request) -> Verdict:
        """The decision about a request for which there was none yet."""
        if not self._is_write(request, path_of(request.target)):
            return await self._read(request)
        verdict = await self._wait_to_write(request)
        if verdict is WRITE and request.is_read:
            return await self._lost_by_another(request) or verdict
        return verdict

    async def as_write(self, request: Request) -> Verdict:
        """The decision about a request that turned out to be one for the primary."""
        verdict = await self._wait_to_write(request)
        return WRITE if isinstance(verdict, Forward) else verdict

    async def _wait_to_write(self, request: Request) -> Verdict:
        with trio.move_on_after(self.redirect_timeout):
            while (verdict := self._write(request)) is None:
                await self._role_or_right_changes()
            return verdict
        return self._say(request, "no primary available, returning 503", answers.NO_PRIMARY)

    async def settle(self) -> None:
        """Wait until no write is under way, but not for long: new ones are held while the role is given away."""
        with trio.move_on_after(SETTLE_LIMIT):
            await self.writing.none()

    # --------------------------------------------------------------------------------------------------------- kinds

    def _is_write(self, request: Request, path: bytes) -> bool:
        """What another node's proxy has sent here is for the primary, whatever its method."""
        if not request.is_read or request.for_primary or self._always_forward.match(path):
            return True
        return self._sockets_to_primary and bool(request.upgrade)

    def _health(self, request: Request) -> Answer:
        if (lag := self._role.lag_ms() or 0) > self._max_lag:
            return self._say(request, f"replication lag of {lag} ms exceeds the maximum", answers.LAGGING)
        return answers.HEALTHY

    async def _read(self, request: Request) -> Verdict:
        seen = self.positions.seen(request.cookies)
        if seen is None:
            return _read(request)
        with trio.move_on_after(POSITION_LIMIT):
            while True:
                where = await self.positions.where(seen)
                if where.place is Place.HERE:
                    return await self._say_where(request, "proxying to target", _read(request))
                if (verdict := await self._lost(request, where)) is not None:
                    return verdict
                await self._change(where)
        if seen.positions and not self._role.is_primary and (verdict := self._write(request)) is not None:
            return verdict
        return await self._say_where(request, f"requires {seen}, proxy timeout", answers.STALE)

    async def _lost(self, request: Request, where: Where) -> Verdict | None:
        """For a read whose client has seen what this node does not know to be in its history; None: wait.

        The primary decides, which has all there is. A replica may lack something of the past, or be itself what is not
        up to date; and what is ahead of it may just be on its way.
        """
        if self._role.is_primary:
            return await self._diverged(request) if where.lost and self._store.writable else None
        return self._write(request) if where.place in (Place.ELSEWHERE, Place.FORGOTTEN) else None

    async def _lost_by_another(self, request: Request) -> Answer | None:
        """The answer for a read that another node has sent here for that reason, if this one is of the same opinion."""
        seen = self.positions.seen(request.cookies)
        if seen is None or not (await self.positions.where(seen)).lost:
            return None
        return await self._diverged(request)

    async def _diverged(self, request: Request) -> Answer:
        """Said once: the client gets cookies of the history there is, and goes on."""
        answer = replace(answers.DIVERGED, fields=await self.positions.cookies())
        return await self._say_where(request, "the client's position is of another history", answer)

    def _write(self, request: Request) -> Verdict | None:
        """None while there is no primary, or this one may not write at the moment."""
        role = self._role
        if role.is_primary:
            if not self._store.writable or role.is_yielding:
                return None
            forward = WRITE_BY_READING if request.is_read and not request.for_primary else WRITE
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

    @staticmethod
    async def _change(where: Where) -> None:
        """Return when what is waited for may be here.  Databases that are new, and primaries, are looked for."""
        told = where.place is Place.AHEAD and where.change is not None
        with trio.move_on_after(math.inf if told else POSITION_CHECK):
            await (where.change if where.change is not None else trio.Event()).wait()

    async def _role_or_right_changes(self) -> None:
        """Return when the role has changed.  When this primary may write again is told by nobody: looked for."""
        with trio.move_on_after(WRITABLE_CHECK if self._role.is_primary else math.inf):
            await self._role.wait_change()

    async def _say_where(self, request: Request, why: str, verdict: V) -> V:
        return self._say(request, f"{await self.positions.describe()}, {why}", verdict) if self._debug else verdict

    def _say(self, request: Request, why: str, verdict: V) -> V:
        if self._debug:
            log.info("proxy: %s %s: %s", request.method.decode(), request.target.decode(errors="replace"), why)
        return verdict


def _read(request: Request) -> Forward:
    return REPLAYED_READ if request.replayed else READ
