"""LiteFS Cloud's protocol, from the node's side: three requests over HTTP/1.1, or HTTP/2 where TLS negotiates it."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

from litefs import jsontext
from litefs.backup import BackupError, DatabaseRefused, PositionConflict
from litefs.errors import LTXError
from litefs.ltx import Pos, parse_checksum, parse_txid
from litefs_backup_cloud.settings import CloudSettings

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each request

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Seconds for one read or write to move; a server may take its time with a database it has to put together first."""

MAX_ERROR = 64 << 10
"""Bytes of an error's text."""

MAX_POSITIONS = 64 << 20
"""Bytes of a position map: half a million databases."""

# Statuses that concern the one database that was asked for, and not the server or our right to use it.
_OF_ONE = frozenset({400, 404, 409, 413, 422})


class CloudClient:
    """A `litefs.backup.BackupClient`.

    Args:
        cluster_id: the id of this node's cluster, empty as long as it has none.
        transport: for tests; by default connections are made.
    """

    def __init__(
        self,
        settings: CloudSettings,
        cluster_id: Callable[[], str],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._cluster_id = cluster_id
        self._instance = ""
        self._http = httpx.AsyncClient(
            base_url=settings.url,
            http2=settings.url.startswith("https:"),
            timeout=TIMEOUT,
            transport=transport,
            trust_env=not is_loopback(settings.url),  # a proxy, as Go's client would use it
        )

    @property
    def url(self) -> str:
        """The server."""
        return self._settings.url

    async def positions(self) -> dict[str, Pos]:
        """``GET /pos``."""
        async with self._request("GET", "/pos", {}) as response:
            body = await _read(response, MAX_POSITIONS)
        return parse_positions(body)

    async def write(self, name: str, ltx: AsyncIterator[bytes]) -> int:
        """``POST /db/tx``."""
        async with self._request("POST", "/db/tx", {"db": name}, ltx) as response:
            mark = response.headers.get("litefs-hwm", "")
        try:
            return parse_txid(mark)
        except LTXError:
            raise BackupError(f'cannot parse high-water mark: "{mark[:100]}"') from None

    @asynccontextmanager
    async def snapshot(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """``GET /db/snapshot``."""
        async with self._request("GET", "/db/snapshot", {"db": name}) as response:
            yield response.aiter_bytes()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # --------------------------------------------------------------------------------------------------- requests

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, query: dict[str, str], body: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; the open answer, if it is a success.

        Raises:
            BackupError: no answer, or one that says what is wrong.
        """
        if self._settings.cluster:
            query = {"cluster": self._settings.cluster, **query}
        try:
            async with self._http.stream(method, path, params=query, headers=self._headers(), content=body) as response:
                if not response.is_success:
                    if response.status_code == 503:
                        self._instance = ""  # it may be gone; let the next request find another
                    raise await self._refusal(response)
                self._instance = response.headers.get("lfsc-instance-id") or self._instance
                yield response
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise BackupError(f"{self.url} does not answer: {self._settings.clean(words(error))}") from error

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "litefs", "Accept-Encoding": "identity"}
        if self._settings.token:
            headers["Authorization"] = self._settings.token
        if cluster_id := self._cluster_id():
            headers["Litefs-Cluster-Id"] = cluster_id
        if self._instance:
            headers["Fly-Force-Instance-Id"] = self._instance
        return headers

    async def _refusal(self, response: httpx.Response) -> BackupError:
        status = response.status_code
        text = (await _read(response, MAX_ERROR, cut=True)).decode("utf-8", "replace").strip()
        with suppress(ValueError, TypeError, LTXError, AttributeError):
            answer = jsontext.loads(text)
            text = str(answer.get("error", ""))
            if answer.get("code") == "EPOSMISMATCH":
                return PositionConflict(parse_position(answer.get("pos") or {}))
        message = f"backup client error ({status}): {self._settings.clean(text)}"
        of_one = status in _OF_ONE and response.request.url.path.startswith("/db/")
        return DatabaseRefused(message) if of_one else BackupError(message, hint(status))


def hint(status: int) -> str:
    """What to do about a status, if anything."""
    return "check LITEFS_CLOUD_TOKEN or backup.auth-token" if status in (401, 403) else ""


def words(error: Exception) -> str:
    """An error's text; its kind where it has none."""
    return str(error) or type(error).__name__


async def _read(response: httpx.Response, limit: int, *, cut: bool = False) -> bytes:
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > limit:
            if cut:
                break
            raise BackupError(f"the answer has more than {limit} bytes")
    return bytes(data[:limit])


def parse_positions(body: bytes) -> dict[str, Pos]:
    """The answer to ``GET /pos``. Raises BackupError."""
    try:
        return {str(name): parse_position(value) for name, value in dict(jsontext.loads(body)).items()}
    except (ValueError, TypeError, LTXError) as error:
        raise BackupError(f"the answer is no map of positions: {error}", "is it a server of that protocol?") from None


def parse_position(value: Any) -> Pos:
    """A position in JSON; Go's decoder takes its keys in any case, and null for zero. Raises LTXError, TypeError."""
    fields = {str(key).lower(): item for key, item in dict(value).items()}
    txid, checksum = fields.get("txid"), fields.get("postapplychecksum")
    if not all(isinstance(text, str | None) for text in (txid, checksum)):
        raise TypeError("TXID and checksum of a position are text")
    return Pos(parse_txid(txid.lower()) if txid else 0, parse_checksum(checksum.lower()) if checksum else 0)


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
