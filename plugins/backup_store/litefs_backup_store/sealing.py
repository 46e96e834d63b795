"""Encrypted objects: AES-256-GCM in chunks, so that neither memory nor what one key encrypts grows with an object.

    "LTXSEAL1"  8 bytes
    key id      8 bytes, which of several keys
    salt       16 bytes, random
    chunks      65536 bytes each, the last one of any smaller size, each followed by its tag of 16 bytes

Each object has a key of its own: HKDF-SHA256 of the key, the salt, and the object's name, so that an object under
another one's name is as worthless as a damaged one. The nonce of a chunk is its number (11 bytes, big-endian) and
whether it is the last (1 byte): chunks cannot change places, and an end that is missing is noticed.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from litefs_backup_store.keys import ID_SIZE, KEY_VARIABLE, Key
from litefs_backup_store.objects import Damaged, StorageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"LTXSEAL1"
CHUNK = 64 << 10
TAG = 16
SALT = 16
HEADER = len(MAGIC) + ID_SIZE + SALT


class WrongKey(StorageError):
    """The object is encrypted, and none of the keys at hand is its own."""


def is_sealed(begin: bytes) -> bool:
    """Whether these are the first bytes of an encrypted object."""
    return begin.startswith(MAGIC)


def seal(source: BinaryIO, target: BinaryIO, name: str, key: Key) -> None:
    """Encrypt a file. Blocking. Raises OSError."""
    header = MAGIC + key.id + secrets.token_bytes(SALT)
    target.write(header)
    cipher = _cipher(key, header, name)
    number, chunk = 0, source.read(CHUNK)
    while True:
        following = source.read(CHUNK) if len(chunk) == CHUNK else b""
        target.write(cipher.encrypt(_nonce(number, last=not following), chunk, None))
        if not following:
            return
        number, chunk = number + 1, following


def unseal(source: BinaryIO, target: BinaryIO, name: str, keys: Sequence[Key]) -> None:
    """Decrypt what `seal` wrote. What has reached the target is authentic, but may lack its end if this raises.

    Raises:
        WrongKey: none of the keys is its own; nothing was written.
        Damaged: it is not what was written.
        OSError.
    """
    from cryptography.exceptions import InvalidTag

    header = source.read(HEADER)
    if len(header) < HEADER or not is_sealed(header):
        raise Damaged(f"{name} is cut off, or not encrypted")
    cipher = _cipher(find_key(header, name, keys), header, name)
    number, chunk = 0, source.read(CHUNK + TAG)
    while True:
        following = source.read(CHUNK + TAG)
        try:
            target.write(cipher.decrypt(_nonce(number, last=not following), chunk, None))
        except InvalidTag:
            raise Damaged(f"{name} is not what was stored: its chunk {number} cannot be decrypted") from None
        if not following:
            return
        number, chunk = number + 1, following


def seal_bytes(data: bytes, name: str, key: Key) -> bytes:
    """`seal` for a small object."""
    output = io.BytesIO()
    seal(io.BytesIO(data), output, name, key)
    return output.getvalue()


def unseal_bytes(data: bytes, name: str, keys: Sequence[Key]) -> bytes:
    """`unseal` for a small object. Raises WrongKey, Damaged."""
    output = io.BytesIO()
    unseal(io.BytesIO(data), output, name, keys)
    return output.getvalue()


def find_key(header: bytes, name: str, keys: Sequence[Key]) -> Key:
    """The key that an object with these first bytes needs. Raises WrongKey."""
    wanted = header[len(MAGIC) : len(MAGIC) + ID_SIZE]
    for key in keys:
        if key.id == wanted:
            return key
    raise _refusal(name, wanted, keys)


def _refusal(name: str, wanted: bytes, keys: Sequence[Key]) -> WrongKey:
    if not keys:
        hint = f"name its key with encryption-key-file in the backup's section of litefs.yml, or with {KEY_VARIABLE}"
        return WrongKey(f"{name} is encrypted with key {wanted.hex()}, and no key is configured", hint)
    at_hand = ", ".join(key.id.hex() for key in keys)
    hint = "add the former key after the present one: the first writes, all of them read"
    return WrongKey(f"{name} is encrypted with key {wanted.hex()}, and configured is: {at_hand}", hint)


def _cipher(key: Key, header: bytes, name: str) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = b"litefs backup object\0" + name.encode("utf-8", "surrogateescape")
    return AESGCM(HKDF(SHA256(), 32, salt=header[-SALT:], info=info).derive(key.secret))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
