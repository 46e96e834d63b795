"""What ``litefs backup`` reads from a server of LiteFS Cloud's protocol: its newest state, and earlier ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx
from litefs_backup_store.source import Held, State, States

from litefs import jsontext, ltx
from litefs.backup import BackupError, DatabaseRefused
from litefs.errors import LTXError
from litefs.ltx import Pos, parse_txid
from litefs_backup_cloud.client import MAX_ERROR, MAX_POSITIONS, TIMEOUT, hint, is_loopback, parse_positions, words
from litefs_backup_cloud.settings import CloudSettings, cloud_settings

if TYPE_CHECKING:
    from litefs.config import BackupConfig

ASKED = 100
"""Databases that are asked for one by one when all are listed; of more of them only the positions are shown."""


def open_cloud(config: BackupConfig) -> CloudSource:
    """The server that the ``backup`` section and the environment name. Raises ConfigError."""
    return CloudSource(cloud_settings(config, os.environ))


class CloudSource:
    """A `litefs_backup_store.source.Source`.

    Args:
        transport: for tests; by default connections are made.
    """

    def __init__(self, settings: CloudSettings, *, transport: httpx.BaseTransport | None = None) -> None:
        self._settings = settings
        headers = {"User-Agent": "litefs", "Accept-Encoding": "identity"}
        if settings.token:
            headers["Authorization"] = settings.token
        self._http = httpx.Client(
            base_url=settings.url,
            headers=headers,
            timeout=TIMEOUT,
            transport=transport,
            trust_env=not is_loopback(settings.url),
        )

    @property
    def url(self) -> str:
        """The server."""
        return self._settings.url

    def databases(self) -> list[Held]:
        """``GET /pos``, and what the server tells of each."""
        positions = self._positions()
        ask = len(positions) <= ASKED
        return [Held(name, pos, self._changed(name) if ask else 0) for name, pos in sorted(positions.items())]

    def states(self, name: str) -> States:
        """``GET /db/info``; only the newest one where the server does not know that."""
        pos = self._position(name)
        found = self._info(name)
        if found is None:
            return States([State(pos.txid, 0)], complete=False)
        return States([_state(found, "min"), _state(found, "max")], complete=False)

    def restore(self, name: str, output: BinaryIO, *, txid: int = 0, timestamp: int = 0) -> None:
        """``GET /db/snapshot``; what comes is verified."""
        query = {"db": name}
        if txid:
            query["txid"] = f"{txid:016x}"
        elif timestamp:
            query["timestamp"] = datetime.fromtimestamp(timestamp / 1000, UTC).isoformat(timespec="milliseconds")
        with self._asked("/db/snapshot", query) as response:
            for piece in response.iter_bytes():
                output.write(piece)
        output.seek(0)
        try:
            header, _ = ltx.verify(output, name)
        except LTXError as error:
            raise DatabaseRefused(f'the snapshot of "{name}" is not whole: {error}') from None
        if not header.is_snapshot:
            raise DatabaseRefused(f'no snapshot of "{name}" came, but later transactions only')

    def size(self, name: str) -> int:
        """Not known."""
        return 0

    def check(self, name: str, progress: Callable[[int], object]) -> Iterator[str]:
        """The newest state, which must be the one that the server names, and the oldest."""
        before = self._position(name)
        found = self._verified(name, 0)
        if isinstance(found, str):
            yield f"its newest state: {found}"
        elif found not in (before, self._position(name)) and found.txid <= before.txid:
            yield f"its newest state is {found} instead of {before}"
        oldest = self.states(name).found[0]
        if oldest.txid != before.txid and isinstance(found := self._verified(name, oldest.txid), str):
            yield f"its oldest state: {found}"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # ---------------------------------------------------------------------------------------------------- requests

    def _positions(self) -> dict[str, Pos]:
        with self._asked("/pos", {}) as response:
            return parse_positions(_read(response, MAX_POSITIONS))

    def _position(self, name: str) -> Pos:
        found = self._positions().get(name)
        if found is None:
            raise DatabaseRefused(f'database not found: "{name}"', "litefs backup list prints those there are")
        return found

    def _info(self, name: str) -> dict[str, Any] | None:
        try:
            with self._asked("/db/info", {"db": name}) as response:
                found: dict[str, Any] = jsontext.loads(_read(response, MAX_ERROR))
            _state(found, "min"), _state(found, "max")
        except (DatabaseRefused, ValueError, KeyError, TypeError, LTXError):
            return None
        return found

    def _changed(self, name: str) -> int:
        found = self._info(name)
        return 0 if found is None else _state(found, "max").time

    def _verified(self, name: str, txid: int) -> Pos | str:
        """Where a state's snapshot leads, or what is wrong with it."""
        with tempfile.TemporaryFile() as file:
            try:
                self.restore(name, file, txid=txid)
            except DatabaseRefused as error:
                return str(error)
            file.seek(0)
            header, trailer = ltx.read_info(file)
            return Pos(header.max_txid, trailer.post_apply)

    @contextmanager
    def _asked(self, path: str, query: dict[str, str]) -> Iterator[httpx.Response]:
        if self._settings.cluster:
            query = {"cluster": self._settings.cluster, **query}
        try:
            with self._http.stream("GET", path, params=query) as response:
                if not response.is_success:
                    raise self._refusal(response)
                yield response
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise BackupError(f"{self.url} does not answer: {self._settings.clean(words(error))}") from None

    def _refusal(self, response: httpx.Response) -> BackupError:
        text = _read(response, MAX_ERROR).decode("utf-8", "replace").strip()
        with suppress(ValueError, AttributeError):
            text = str(jsontext.loads(text).get("error", ""))
        status = response.status_code
        of_one = status in (400, 404, 422) and response.request.url.path.startswith("/db/")
        message = f"{self.url} refuses ({status}): {self._settings.clean(text)}"
        return (DatabaseRefused if of_one else BackupError)(message, hint(status))


def _state(found: dict[str, Any], which: str) -> State:
    """A state in the server's words. Raises KeyError, ValueError, LTXError."""
    moment = datetime.fromisoformat(str(found[f"{which}Timestamp"]))
    return State(parse_txid(str(found[f"{which}TxId"])), int(moment.timestamp() * 1000))


def _read(response: httpx.Response, limit: int) -> bytes:
    data = bytearray()
    for piece in response.iter_bytes():
        data += piece
        if len(data) > limit:
            raise BackupError(f"the answer has more than {limit} bytes")
    return bytes(data)
