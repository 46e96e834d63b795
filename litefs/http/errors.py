"""Failures as LiteFS words them: plain text, one line, never sniffed as anything else."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response

from litefs.errors import BadName, DatabaseBusy, DatabaseNotFound, LitefsError, ReadOnly

PLAIN = "text/plain; charset=utf-8"


class HTTPError(Exception):
    """The request is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ResponseAborted(Exception):
    """A response failed after its headers were sent: the connection or stream is reset, so that the client notices."""


def as_http_error(error: Exception) -> HTTPError:
    """The answer for an exception of the layers below; 500 for what has no status of its own."""
    if isinstance(error, HTTPError):
        return error
    if isinstance(error, BadName):
        return HTTPError(400, str(error))
    if isinstance(error, DatabaseNotFound):
        return HTTPError(404, "database not found")
    if isinstance(error, ReadOnly):
        return HTTPError(503, "lease expired")
    if isinstance(error, DatabaseBusy):
        return HTTPError(503, str(error))
    if isinstance(error, LitefsError):
        return HTTPError(500, str(error))
    if isinstance(error, OSError):
        return HTTPError(500, error.strerror or "I/O error")  # without the path: that is nobody's business
    return HTTPError(500, "internal error, see the log of this node")


def error_response(error: HTTPError) -> Response:
    """The response for an error."""
    headers = {"content-type": PLAIN, "x-content-type-options": "nosniff"}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(" ".join(error.message.splitlines()) + "\n", error.status, headers)
