"""Browsers that have logged in to the status page: each knows a random word, which stands for the node's token there.

In memory only: a node that starts again knows nobody. The cookie is not the token, and is worth less: it lets a browser
see the page and press its buttons, until it logs out or for `LIFETIME`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

LIFETIME = 12 * 3600.0
"""Seconds from the login on."""

MOST = 64
"""Sessions; the oldest one ends where there would be more."""


class Sessions:
    """Who is logged in.

    Args:
        name: of the cookie: another one for each node, since cookies do not tell ports apart.
        secure: whether the node speaks TLS.
    """

    def __init__(self, name: str, *, secure: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = f"__Host-{name}" if secure else name
        self._secure = secure
        self._clock = clock
        self._ends: dict[str, float] = {}

    def begin(self) -> str:
        """A new session; the Set-Cookie header for it."""
        if len(self._ends) >= MOST:
            del self._ends[next(iter(self._ends))]
        word = secrets.token_urlsafe(32)
        self._ends[word] = self._clock() + LIFETIME
        return self._cookie(word)

    def end(self, cookies: str) -> str:
        """End the session of a Cookie header; the Set-Cookie header that takes the cookie away."""
        self._ends.pop(self._word(cookies), None)
        return f"{self._cookie('')}; Max-Age=0"

    def known(self, cookies: str) -> bool:
        """Whether a Cookie header has a session that has not ended."""
        return self._ends.get(self._word(cookies), 0.0) > self._clock()

    def _word(self, cookies: str) -> str:
        try:
            found = SimpleCookie(cookies).get(self._name)
        except CookieError:
            return ""
        return found.value if found else ""

    def _cookie(self, word: str) -> str:
        return f"{self._name}={word}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if self._secure else ''}"
