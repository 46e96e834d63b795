"""Who is logged in. Kept in memory only: a server that starts anew asks everybody again."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LIFETIME = 12 * 3600.0
"""Seconds after which a session is over, whatever happens in it."""

LIMIT = 1000
"""Sessions at a time; one more ends the oldest."""


@dataclass(slots=True)
class Session:
    """A browser that has shown a token.

    Attributes:
        token_id: which; the token itself is not kept.
        proof: what every form of this session carries, and no other web page knows.
        notice: what the next page has to say.
    """

    token_id: str
    began: float
    proof: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    notice: str = ""

    def proven(self, given: str) -> bool:
        """Whether a form is of this session."""
        return hmac.compare_digest(given.encode(), self.proof.encode())

    def take_notice(self) -> str:
        """What is to be said, once."""
        notice, self.notice = self.notice, ""
        return notice


class Sessions:
    """All of them.

    Args:
        now: seconds of a clock that only goes forward.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._open: dict[str, Session] = {}  # by their secret, the oldest first

    def begin(self, token_id: str) -> tuple[str, Session]:
        """A new session, and the secret that the browser shows for it."""
        while len(self._open) >= LIMIT:
            del self._open[next(iter(self._open))]
        secret = secrets.token_urlsafe(32)
        self._open[secret] = Session(token_id, self._now())
        return secret, self._open[secret]

    def find(self, secret: str) -> Session | None:
        """The session of a secret; None where there is none, or not any more."""
        found = self._open.get(secret)
        if found is not None and self._now() - found.began > LIFETIME:
            self.end(secret)
            return None
        return found

    def end(self, secret: str) -> None:
        """Log out."""
        self._open.pop(secret, None)
