"""Refusals as LiteFS Cloud words them: a code, a text, and for one of them a position."""

from __future__ import annotations

import logging

from litefs_backup_store.plan import NoSuchState
from litefs_backup_store.vault import DatabaseUnknown
from starlette.responses import JSONResponse, Response

from litefs.backup import BackupError, DatabaseRefused, PositionConflict
from litefs.errors import BadName, FormatError, LitefsError
from litefs.ltx import Pos
from litefs_cloud_server.clusters import ClusterGone, OtherCluster
from litefs_cloud_server.tokens import TokenError

log = logging.getLogger(__name__)


class Refused(Exception):
    """The request is answered with this.

    Args:
        status: of HTTP.
        code: for programs, like ``ENODB``.
        text: for people.
    """

    def __init__(self, status: int, code: str, text: str, pos: Pos | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.pos = pos


def position(pos: Pos) -> dict[str, str]:
    """A position in JSON."""
    return {"TXID": f"{pos.txid:016x}", "PostApplyChecksum": f"{pos.checksum:016x}"}


def refused(error: Exception, *, by_time: bool = False) -> Refused:
    """The answer to an exception."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, PositionConflict):
        return Refused(409, "EPOSMISMATCH", "position mismatch", error.pos)
    if isinstance(error, DatabaseUnknown):
        return Refused(404, "ENODB", "database not found")
    if isinstance(error, NoSuchState):
        return Refused(404, "ENOTIMESTAMP" if by_time else "ENOTXID", error.message)
    if isinstance(error, BadName):
        return Refused(400, "EBADDB", str(error))
    if isinstance(error, ClusterGone):
        return Refused(410, "EBADCLUSTER", "the cluster is being deleted")
    if isinstance(error, TokenError):
        return Refused(400, "EBADCLUSTER", str(error))
    if isinstance(error, FormatError):
        return Refused(400, "EBADFORMAT", str(error))
    if isinstance(error, OtherCluster):
        return Refused(422, "EBADCLUSTER", str(error))
    if isinstance(error, DatabaseRefused):
        return Refused(400, "EBADCHECKSUM", error.message)
    if isinstance(error, (BackupError, LitefsError, OSError)):
        log.error("cannot serve a request: %s", error)
        return Refused(503, "EINTERNAL", "the storage of this server cannot be used now")
    log.error("cannot serve a request", exc_info=error)
    return Refused(500, "EINTERNAL", "internal error, see the log of this server")


def response(error: Refused) -> Response:
    """The response for a refusal."""
    content: dict[str, object] = {"code": error.code, "error": error.text}
    if error.pos is not None:
        content["pos"] = position(error.pos)
    return JSONResponse(content, error.status)
