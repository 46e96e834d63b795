"""A node's event stream as commands read it: line by line, over lost connections."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import httpx

from litefs import jsontext
from litefs.cli.api import APIError, NodeAPI, TransferError, check, transfer_errors
from litefs.errors import LitefsError

LINE_LIMIT = 1 << 20  # bytes; a line of a node is below 2 KiB
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before the first, second, ... new connection; the last one for good

# Nothing comes for as long as nothing happens, so silence is no sign. That the other machine is gone is TCP's to find
# out: after a minute, in probes of 15 s.
_TIMEOUT = httpx.Timeout(30.0, read=None)
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 3))


class StreamEnded(LitefsError):
    """The node ended the stream: it stops, or has dropped a reader that was too slow."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event.

    Args:
        text: as the node sent it, without the end of the line.
        event: what it says: ``type``, ``data`` and for some types ``db``.
    """

    text: bytes
    event: dict[str, Any]


class EventStream(NodeAPI):
    """A node's API with ``GET /events`` in it."""

    def __enter__(self) -> Self:
        return self

    def events(self) -> Iterator[Line]:
        """The events from now on, over one connection; ``init`` is the first.

        Raises:
            TransferError: the node cannot be reached, or the connection broke off.
            StreamEnded: the node ended the stream.
            APIError: it refused, or sent what is no event.
        """
        with transfer_errors(self.url), self._client.stream("GET", "/events", timeout=_TIMEOUT) as response:
            check(response)
            _keep_alive(response)
            for text in lines(response.iter_bytes()):
                yield Line(text, _parse(text, self.url))
        raise StreamEnded(f"{self.url} has ended the stream")


def follow(
    events: Callable[[], Iterator[Line]],
    *,
    wait: bool,
    reconnect: bool,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Line]:
    """The events of a node, with new connections for lost ones.

    Args:
        events: makes a connection, as `EventStream.events`.
        wait: also where the node cannot be reached in the beginning.
        reconnect: when a connection was there and is lost.
        say: told once for each loss, and when it is over.

    Raises:
        APIError, StreamEnded: what ended the last connection, if another one is not wanted or would be of no use.
    """
    lost = 0
    connected = False
    while True:
        try:
            for line in events():
                if lost:
                    say("connected again" if connected else "connected")
                lost, connected = 0, True
                yield line
        except (TransferError, StreamEnded) as error:
            if not (reconnect if connected else wait):
                raise
            if not lost:
                say(f"{error.message}; trying again")
        sleep(PAUSES[min(lost, len(PAUSES) - 1)])
        lost += 1


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines, without their ends; what is left at the end was broken off and is dropped.

    Raises APIError for a line above the limit, before all of it is in memory.
    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) > LINE_LIMIT:
            raise _no_event(f"a line of more than {LINE_LIMIT} bytes")


def _parse(text: bytes, url: str) -> dict[str, Any]:
    try:
        event = jsontext.loads(text.decode("utf-8", "surrogateescape"))  # names of databases need not be UTF-8
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise _no_event(f"{url} sent {text[:100]!r}")
    return event


def _no_event(what: str) -> APIError:
    return APIError(f"this is no event: {what}", "is it a node of litefs?")


def _keep_alive(response: httpx.Response) -> None:
    """Have the kernel notice a node whose machine is gone."""
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
