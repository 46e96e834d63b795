"""Tokens: which cluster a request is about, and whether it may write. Kept as hashes. All of it blocks."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from litefs_backup_store.objects import ObjectChanged, ObjectMissing, Objects, StorageError

from litefs.errors import LitefsError

KEY = "tokens.json"
PREFIX = "lfsc"
CLUSTER_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,31}")

_TOKEN = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_([0-9A-Za-z_-]{{43}})")
_TRIES = 10


class TokenError(LitefsError):
    """A token, or the name of a cluster, that cannot be."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token.

    Attributes:
        id: names it; a part of the token.
        cluster: whose it is.
        hash: SHA-256 of its secret part, which has 256 random bits.
        read_only: whether it may only read.
        created: seconds since the epoch.
    """

    id: str
    cluster: str
    hash: str
    read_only: bool
    created: int


class Tokens:
    """The tokens of a server's storage."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def all(self) -> list[Token]:
        """Every token, the oldest first. Raises StorageError."""
        return self._load()[0]

    def create(self, cluster: str, *, read_only: bool) -> str:
        """A new token for a cluster, which need not exist; shown here and never again.

        Raises:
            TokenError: no cluster can have that name.
            StorageError: it could not be kept.
        """
        if not CLUSTER_NAME.fullmatch(cluster):
            raise TokenError(f"{cluster!r} cannot be the name of a cluster", "1 to 32 letters, digits, '_', '-' or '.'")
        number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        token = Token(number, cluster, _hash(secret), read_only, int(time.time()))
        self._change(lambda tokens: [*tokens, token])
        return f"{PREFIX}_{number}_{secret}"

    def revoke(self, number: str) -> Token:
        """Forget a token. Raises TokenError when there is none of that id."""
        found = [token for token in self.all() if token.id == number]
        if not found:
            raise TokenError(f"no token {number}", "list them with: litefs cloud token list")
        self._change(lambda tokens: [token for token in tokens if token.id != number])
        return found[0]

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

    def _load(self) -> tuple[list[Token], str | None]:
        try:
            data, version = self._objects.get(KEY)
        except ObjectMissing:
            return [], None
        try:
            content: list[dict[str, Any]] = json.loads(data)["tokens"]
            return [Token(**item) for item in content], version
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{KEY} is damaged: {error}") from error

    def _change(self, change: Callable[[list[Token]], list[Token]]) -> None:
        for _ in range(_TRIES):
            tokens, version = self._load()
            content = {"tokens": [asdict(token) for token in change(tokens)]}
            try:
                self._objects.replace(KEY, json.dumps(content, indent=1).encode(), version)
            except ObjectChanged:
                continue
            return
        raise StorageError(f"{KEY} is changed by others all the time")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
