"""Tokens: which cluster a request is about, and whether it may write. Kept as hashes. All of it blocks."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from litefs_backup_store.objects import Objects, StorageError

from litefs.errors import LitefsError
from litefs_cloud_server.listing import Items, Listing

KEY = "tokens.json"
PREFIX = "lfsc"
CLUSTER_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,31}")
CLUSTER_NAME_HINT = "1 to 32 letters, digits, '_', '-' or '.', which it does not begin with"
EVERY = "*"
"""In place of a cluster's name: the token is for all of them, and may create and delete them."""

_TOKEN = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_([0-9A-Za-z_-]{{43}})")


class TokenError(LitefsError):
    """A token, or the name of a cluster, that cannot be."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token.

    Attributes:
        id: names it; a part of the token.
        cluster: whose it is, or `EVERY`.
        hash: SHA-256 of its secret part, which has 256 random bits.
        read_only: whether it may only read.
        created: seconds since the epoch.
    """

    id: str
    cluster: str
    hash: str
    read_only: bool
    created: int

    def reaches(self, cluster: str) -> bool:
        """Whether it is for that cluster."""
        return self.cluster in (cluster, EVERY)


class Tokens:
    """The tokens of a server's storage."""

    def __init__(self, objects: Objects) -> None:
        self._list = Listing(objects, KEY, "tokens")

    def all(self) -> list[Token]:
        """Every token, the oldest first. Raises StorageError."""
        try:
            return [Token(**item) for item in self._list.items()]
        except TypeError as error:
            raise StorageError(f"{KEY} is damaged: {error}") from error

    def create(self, cluster: str, *, read_only: bool) -> str:
        """A new token for a cluster, which need not exist, or for `EVERY`; shown here and never again.

        Raises:
            TokenError: no cluster can have that name.
            StorageError: it could not be kept.
        """
        if cluster != EVERY and not CLUSTER_NAME.fullmatch(cluster):
            raise TokenError(f"{cluster!r} cannot be the name of a cluster", CLUSTER_NAME_HINT)
        number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        token = asdict(Token(number, cluster, _hash(secret), read_only, int(time.time())))
        self._list.change(lambda tokens: [*tokens, token])
        return f"{PREFIX}_{number}_{secret}"

    def revoke(self, number: str) -> Token:
        """Forget a token. Raises TokenError when there is none of that id."""
        found = self.by_id(number)
        if found is None:
            raise TokenError(f"no token {number}", "list them with: litefs cloud token list")
        self._list.change(_without("id", number))
        return found

    def revoke_all(self, cluster: str) -> None:
        """Forget the tokens of one cluster."""
        self._list.change(_without("cluster", cluster))

    def by_id(self, number: str) -> Token | None:
        """The token of that id; None where there is none, or not any more."""
        return next((token for token in self.all() if token.id == number), None)

    def find(self, authorization: str) -> Token | None:
        """The token of an Authorization header, with or without a scheme before it; None for one that is not valid."""
        match = _TOKEN.fullmatch(authorization.strip().rpartition(" ")[2])
        if match is None:
            return None
        given = _hash(match[2])
        for token in self.all():
            if token.id == match[1] and hmac.compare_digest(token.hash, given):
                return token
        return None


def _without(field: str, value: str) -> Callable[[Items], Items]:
    return lambda items: [item for item in items if item[field] != value]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
