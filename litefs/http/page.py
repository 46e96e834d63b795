"""The status page at ``/``: for people with a browser, and for nobody else. LiteFS has no such page.

A browser cannot send the node's token by itself: it is typed into a form, and a session's cookie takes its place. The
page shows what ``/status`` and ``/events`` say, and does what ``litefs promote`` and ``demote`` do, by the same routes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

from starlette.responses import Response

from litefs.http.errors import HTTPError
from litefs.http.exchange import Exchange
from litefs.http.security import authorized, same_token
from litefs.http.services import Services

FORM_LIMIT = 4096
"""Bytes of a login; no token comes near."""

_FILES = Path(__file__).parent / "web"

# Nothing from anywhere else, nothing written into the page, in nobody's frame. The policy for referrers must let the
# browser say where a form is from.
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


async def page(exchange: Exchange, services: Services) -> Response:
    """The page, or the form that asks for the token. Whoever does not ask for HTML gets LiteFS's 404."""
    if exchange.method != "GET" or "text/html" not in exchange.headers.get("accept", ""):
        raise HTTPError(404, "404 page not found")
    if not _admitted(exchange, services):
        return _html("login.html", 401)
    return _html("status.html", show="logout" if services.token else "")


async def login(exchange: Exchange, services: Services) -> Response:
    """Take the token from the form; the page again, with a session's cookie."""
    body = await exchange.read(FORM_LIMIT)
    given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
    if services.token and not same_token(services.token, given.strip()):
        return _html("login.html", 401, show="wrong")
    return _back({"set-cookie": services.sessions.begin()})


async def logout(exchange: Exchange, services: Services) -> Response:
    """End the session; the form again."""
    return _back({"set-cookie": services.sessions.end(exchange.cookie)})


async def script(exchange: Exchange, services: Services) -> Response:
    """``/page.js``."""
    return Response(_read("page.js"), headers=_HEADERS, media_type="text/javascript")


async def style(exchange: Exchange, services: Services) -> Response:
    """``/page.css``."""
    return Response(_read("page.css"), headers=_HEADERS, media_type="text/css")


def _admitted(exchange: Exchange, services: Services) -> bool:
    known = services.sessions.known(exchange.cookie)
    return known or authorized(services.token, exchange.headers.get("authorization", ""))


def _html(name: str, status: int = 200, *, show: str = "") -> Response:
    """A page; with `show` the element of that id is not hidden."""
    text = _read(name)
    if show:
        text = text.replace(f'id="{show}" hidden', f'id="{show}"')
    return Response(text, status, _HEADERS, "text/html")


def _back(headers: dict[str, str]) -> Response:
    return Response(status_code=303, headers={**_HEADERS, **headers, "location": "/"})


@cache
def _read(name: str) -> str:
    return (_FILES / name).read_text("utf-8")
