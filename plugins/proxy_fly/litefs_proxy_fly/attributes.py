"""Attributes of the position cookie: LiteFS's unless the configuration says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litefs.errors import ConfigError
from litefs_proxy_fly.dates import Dates

LIFE = 300.0  # seconds, LiteFS's


class Attributes:
    """What follows the cookie's value.

    Args:
        path, domain: for which requests clients send it; no domain is the host that has set it.
        life: seconds that clients keep it, told as ``Expires`` and ``Max-Age``; 0 is LiteFS's five minutes, told as
            ``Expires`` only.
        http_only: whether scripts in a page cannot read it.
        secure: whether clients send it over HTTPS only.
        same_site: ``Lax``, ``Strict``, ``None``, or empty for nothing.

    Attributes:
        life: seconds that clients keep it.
    """

    def __init__(
        self,
        *,
        path: str = "/",
        domain: str = "",
        life: float = 0.0,
        http_only: bool = True,
        secure: bool = False,
        same_site: str = "",
    ) -> None:
        self.life = life or LIFE
        self._expires = Dates(self.life)
        self._before = f"; Path={path}{f'; Domain={domain}' if domain else ''}; Expires=".encode()
        after = f"; Max-Age={life:.0f}" if life else ""
        after += "; HttpOnly" if http_only else ""
        after += "; Secure" if secure else ""
        after += f"; SameSite={same_site}" if same_site else ""
        self._after = after.encode()

    def text(self) -> bytes:
        """All of them, beginning with the semicolon."""
        return b"%b%b%b" % (self._before, self._expires.now(), self._after)


def configured(keys: Mapping[str, Any]) -> Attributes:
    """Those of the ``proxy`` section.  Raises ConfigError for what no browser would take."""
    if keys["cookie-same-site"] == "None" and not keys["cookie-secure"]:
        hint = "set proxy.cookie-secure: true as well: browsers drop such a cookie otherwise"
        raise ConfigError("proxy.cookie-same-site: None needs a secure cookie", hint)
    life = float(keys["cookie-max-age"])
    if 0 < life < 1:
        raise ConfigError("proxy.cookie-max-age: less than a second", "browsers count whole seconds; 0s for 5 minutes")
    return Attributes(
        path=keys["cookie-path"],
        domain=keys["cookie-domain"],
        life=life,
        http_only=keys["cookie-http-only"],
        secure=keys["cookie-secure"],
        same_site=keys["cookie-same-site"],
    )
