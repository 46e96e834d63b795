"""What nodes of a cluster tell each other about themselves and about the others.

A replica of this implementation introduces itself in headers of its request for a stream. The primary passes on what
it knows in a frame of its own, which is sent only to peers that introduced themselves: LiteFS ends a stream at a frame
it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from litefs import jsontext
from litefs.errors import StreamError

MAX_MEMBERS = 64
"""Nodes that a message may name; a cluster has a handful."""

MAX_TEXT = 1024
"""Characters of a hostname or URL."""

HOSTNAME, ADVERTISE_URL, CANDIDATE = "litefs-hostname", "litefs-advertise-url", "litefs-candidate"

TERM = "litefs-term"
"""Sent by a peer that wants to be told the primary's term; its own is the value."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as others know it.

    Args:
        id: of its process; 0 when not known.
        hostname: its name.
        advertise_url: where its API is reached, or "" when it has not said.
        candidate: whether it may become primary.
    """

    id: int
    hostname: str
    advertise_url: str
    candidate: bool

    def headers(self) -> dict[str, str]:
        """The introduction that goes with a request for a stream."""
        values = {HOSTNAME: self.hostname, ADVERTISE_URL: self.advertise_url}
        sendable = {key: value for key, value in values.items() if value.isascii() and value.isprintable() and value}
        return {**sendable, CANDIDATE: "true" if self.candidate else "false"}

    def as_json(self) -> dict[str, object]:
        """As it stands in messages, `/status` and the file."""
        return {
            "id": f"{self.id:016X}",
            "hostname": self.hostname,
            "advertiseURL": self.advertise_url,
            "candidate": self.candidate,
        }


def introduced(node_id: int, headers: Mapping[str, str]) -> Member | None:
    """The peer that a request's headers introduce; None when they do not."""
    if CANDIDATE not in headers:
        return None
    url = headers.get(ADVERTISE_URL, "")
    return Member(
        node_id,
        headers.get(HOSTNAME, "")[:MAX_TEXT],
        url if is_url(url) else "",
        headers[CANDIDATE] == "true",
    )


def is_url(url: str) -> bool:
    """Whether this can be an advertise URL."""
    if len(url) > MAX_TEXT:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def encode(members: Iterable[Member]) -> bytes:
    """A message about these nodes."""
    return json.dumps([member.as_json() for member in members][:MAX_MEMBERS]).encode()


def decode(data: bytes) -> list[Member]:
    """The nodes that a message names.

    Raises:
        StreamError: it is none.
    """
    try:
        found = jsontext.loads(data)
        if not isinstance(found, list) or len(found) > MAX_MEMBERS:
            raise ValueError("a list of nodes was expected")
        return [from_json(item) for item in found]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StreamError(f"the peer's message about other nodes cannot be read: {error}") from error


def from_json(item: Mapping[str, object]) -> Member:
    """The inverse of `Member.as_json`. Raises ValueError, KeyError or TypeError."""
    node_id, hostname, url, candidate = (item[key] for key in ("id", "hostname", "advertiseURL", "candidate"))
    if not (isinstance(node_id, str) and len(node_id) == 16 and isinstance(hostname, str) and isinstance(url, str)):
        raise ValueError("a node needs id, hostname and advertiseURL")
    if len(hostname) > MAX_TEXT or (url and not is_url(url)):
        raise ValueError(f"bad node: {url[:100]!r}")
    return Member(int(node_id, 16), hostname, url, candidate is True)
