"""What keeps other web pages, and browsers' memories, out of it."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from litefs_cloud_server.errors import Refused
from litefs_cloud_server.web.sessions import LIFETIME

COOKIE = "litefs-cloud"

HEADERS = {
    # Nothing but our style sheet; no scripts at all, so that even text that was taken for HTML could do nothing.
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def protect(answer: Response) -> Response:
    """The answer with all that a browser has to be told."""
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


def check_same_site(request: Request) -> None:
    """Browsers say on whose behalf they send a form: it must be one of ours. Raises Refused."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:  # a browser that is old, or that came over plain HTTP
        ours = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if not ours:
        raise Refused(403, "EINVALIDAUTH", "this request comes from another web page")


def give_cookie(request: Request, answer: Response, secret: str) -> None:
    """Have the browser show the session's secret: to us only, and to no script."""
    # A proxy that speaks TLS says so; whoever invents the header harms himself only.
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    answer.set_cookie(COOKIE, secret, int(LIFETIME), secure=secure, httponly=True, samesite="strict")


def take_cookie(answer: Response) -> None:
    """Have the browser forget it."""
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
