"""Keys that a backup is encrypted with: where they come from, and what one looks like."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litefs.config.secrets import read_token
from litefs.errors import ConfigError

KEY_VARIABLE = "LITEFS_BACKUP_ENCRYPTION_KEY"
"""Environment variable with the keys, where the configuration has none."""

SIZE = 32  # bytes of a key: AES-256
ID_SIZE = 8

_HINT = "a key is 32 random bytes; make one: openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class Key:
    """A key.

    Attributes:
        id: 8 bytes that tell keys apart and nothing about them.
    """

    secret: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        """See the class."""
        return hashlib.sha256(b"litefs backup key\0" + self.secret).digest()[:ID_SIZE]


def find_keys(section: Mapping[str, Any], environment: Mapping[str, str], where: str = "backup") -> tuple[Key, ...]:
    """The keys that apply; none where nothing is to be encrypted. The first one writes, all of them read.

    Args:
        section: may have ``encryption-key`` or ``encryption-key-file``; else the environment is asked.
        where: what the section is called, for errors.

    Raises:
        ConfigError: a key is none, or its file cannot be read; keys are not shown.
    """
    given, path = str(section.get("encryption-key", "")), str(section.get("encryption-key-file", ""))
    if given and path:
        raise ConfigError(f"{where}: give either encryption-key or encryption-key-file", "remove one of them")
    if given:
        return parse_keys(given, f"{where}.encryption-key")
    if path:
        name = f"{where}.encryption-key-file"
        return parse_keys(read_token(path, name), name)
    return parse_keys(environment.get(KEY_VARIABLE, ""), KEY_VARIABLE)


def parse_keys(text: str, where: str) -> tuple[Key, ...]:
    """Keys in hexadecimal or base64, with commas or white space between them. Raises ConfigError."""
    words = re.split(r"[\s,]+", text.strip()) if text.strip() else []
    return tuple(Key(_decode(word, number, where)) for number, word in enumerate(words, 1))


def _decode(word: str, number: int, where: str) -> bytes:
    try:
        if re.fullmatch(rf"[0-9A-Fa-f]{{{2 * SIZE}}}", word):
            return bytes.fromhex(word)
        standard = word.replace("-", "+").replace("_", "/")
        secret = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise ConfigError(f"{where}: key {number} is neither hexadecimal nor base64", _HINT) from None
    if len(secret) != SIZE:
        raise ConfigError(f"{where}: key {number} has {len(secret)} bytes instead of {SIZE}", _HINT)
    return secret
