"""Whether a request may go on: by the token, or from the status page of a browser that has logged in."""

from __future__ import annotations

from http import HTTPStatus

from litefs.http.errors import HTTPError
from litefs.http.exchange import Exchange
from litefs.http.security import SAFE, authorized, from_a_web_page, from_own_page, is_own_name
from litefs.http.services import Services


def check(exchange: Exchange, services: Services, *, guarded: bool, page: bool) -> None:
    """Let a request pass.

    Args:
        guarded: it needs the token, if the node has one.
        page: the status page may send it, with a session's cookie for the token.

    Raises:
        HTTPError: 401 without the token; 403 for pages other than the node's own.
    """
    headers = exchange.headers
    trusted = authorized(services.token, headers.get("authorization", ""))
    if guarded and not trusted and not (page and services.sessions.known(exchange.cookie)):
        raise HTTPError(HTTPStatus.UNAUTHORIZED, "unauthorized")
    origin = headers.get("origin")
    if from_a_web_page(exchange.method, origin) and not (page and _is_own(exchange, services)):
        raise HTTPError(HTTPStatus.FORBIDDEN, "not for web pages")
    # Browsers send an Origin with whatever may change something; a cookie without one proves nothing.
    if guarded and not trusted and exchange.method not in SAFE and origin is None:
        raise HTTPError(HTTPStatus.FORBIDDEN, "not without an Origin")


def _is_own(exchange: Exchange, services: Services) -> bool:
    headers = exchange.headers
    host = headers.get("host", "")
    site = headers.get("sec-fetch-site", "")
    own = from_own_page(headers.get("origin", ""), host, site, secure=services.secure)
    return own and (bool(services.token) or is_own_name(host, services.names))
