"""Objects in an object storage, by obstore. Conditional writes (`If-Match`, `If-None-Match`) keep two writers apart."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from litefs_backup_store.objects import Item, ObjectChanged, ObjectMissing, StorageError

from litefs.errors import ConfigError

if TYPE_CHECKING:
    from litefs.config import BackupConfig

SCHEMES = ("s3", "gs", "az")
RETRIES = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
TIMEOUTS = {"connect_timeout": "10 seconds", "timeout": "300 seconds"}
_HINT = "check the bucket, the access key and its rights, and this machine's clock"
_HINTS = {
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "ExpiredToken": "the credentials are temporary and have expired: give the node new ones",
    "SignatureDoesNotMatch": "the secret does not belong to the access key",
    "InvalidAccessKeyId": "there is no such access key",
    "NoSuchBucket": "make the bucket, or check backup.url",
    "SlowDown": "the storage has too much to do; the node tries again",
    "PermanentRedirect": "check backup.s3.region and backup.s3.endpoint",
    "AuthorizationHeaderMalformed": "check backup.s3.region",
}
_CODE = re.compile(r"<Code>([^<]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
LONGEST = 400  # characters of an error's text


def open_s3(config: BackupConfig) -> S3Objects:
    """The place that ``backup.url`` names. Raises ConfigError when it names none."""
    url = config.url
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        got = f"got {url!r}" if url else "it is empty"
        raise ConfigError(
            f"backup.url must name a bucket, {got}", "write it like s3://BUCKET/PREFIX, gs://... or az://..."
        )
    return S3Objects(url, config.section)


class S3Objects:
    """A bucket, or what begins with a prefix there.

    Args:
        url: ``s3://BUCKET/PREFIX``, ``gs://...`` or ``az://...``.
        section: the ``backup.s3`` section: ``endpoint``, ``region`` and keys; what is empty comes from the environment.
    """

    def __init__(self, url: str, section: Mapping[str, Any]) -> None:
        self._url = url.rstrip("/")
        self._section = section
        self._made: Any = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The bucket and the prefix."""
        return self._url

    @property
    def _store(self) -> Any:
        """Made when it is used first: importing what it takes is not for the start of a node."""
        with self._lock:
            if self._made is None:
                from obstore.store import from_url

                endpoint = str(self._section.get("endpoint", ""))
                options: dict[str, Any] = {
                    "endpoint": endpoint,
                    "region": self._section.get("region", ""),
                    "access_key_id": self._section.get("access-key-id", ""),
                    "secret_access_key": self._section.get("secret-access-key", ""),
                }
                given = {key: value for key, value in options.items() if value}
                client = {**TIMEOUTS, **({"allow_http": True} if endpoint.startswith("http:") else {})}
                with _words(self, ""):
                    self._made = from_url(
                        self._url,
                        config=given,  # type: ignore[call-overload]
                        client_options=client,
                        retry_config=RETRIES,
                    )
            return self._made

    def get(self, key: str) -> tuple[bytes, str]:
        """Read an object."""
        import obstore

        with _words(self, key):
            found = obstore.get(self._store, key)
            return bytes(found.bytes()), found.meta["e_tag"] or ""

    def replace(self, key: str, data: bytes, version: str | None) -> str:
        """Write an object, conditionally."""
        import obstore

        with _words(self, key, writing=True):
            mode: Any = "create" if version is None else {"e_tag": version}
            return obstore.put(self._store, key, data, mode=mode, use_multipart=False)["e_tag"] or ""

    def upload(self, key: str, path: Path) -> None:
        """Write an object from a file, in parts where it is big."""
        import obstore

        with _words(self, key, writing=True):
            obstore.put(self._store, key, path)

    def download(self, key: str, path: Path) -> None:
        """Read an object into a file."""
        import obstore

        with _words(self, key), open(path, "xb") as file:
            for piece in obstore.get(self._store, key).stream(min_chunk_size=1 << 20):
                file.write(piece)

    def copy(self, source: str, target: str) -> None:
        """Have the storage copy an object."""
        import obstore

        with _words(self, source):
            obstore.copy(self._store, source, target)

    def list(self, prefix: str) -> Iterator[Item]:
        """List objects, a thousand with each request."""
        import obstore

        with _words(self, prefix):
            for batch in obstore.list(self._store, prefix.rstrip("/")):
                for found in batch:
                    if found["path"].startswith(prefix):
                        version = found["e_tag"] or ""
                        yield Item(found["path"], found["size"], version, found["last_modified"].timestamp())

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        import obstore

        for key in keys:
            try:
                with _words(self, key):
                    obstore.delete(self._store, key)
            except ObjectMissing:
                pass

    def close(self) -> None:
        """Connections end with the last reference."""
        self._made = None


@contextmanager
def _words(objects: S3Objects, key: str, *, writing: bool = False) -> Iterator[None]:
    from obstore import exceptions

    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        if writing:  # the bucket is missing, or some servers' way to say that they do not know the key
            raise _refusal(objects, error) from None
        raise ObjectMissing(key) from None
    except (exceptions.PreconditionError, exceptions.AlreadyExistsError):
        raise ObjectChanged(key) from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise _refusal(objects, error) from None
    except exceptions.BaseError as error:
        if _CODE.search(str(error)):
            raise _refusal(objects, error) from None
        hint = "check backup.s3.region" if "region" in str(error) else ""
        raise StorageError(f"{objects.url}: {_text(error)}", hint) from None


def _refusal(objects: S3Objects, error: Exception) -> StorageError:
    code = _CODE.search(str(error))
    hint = _HINTS.get(code[1], "") if code else ""
    return StorageError(f"{objects.url} refuses: {_text(error)}", hint or _HINT)


def _text(error: Exception) -> str:
    """The storage's own words, where there are some; else the first lines of an error's text."""
    code, message = _CODE.search(str(error)), _MESSAGE.search(str(error))
    if code:
        return f"{code[1]}: {message[1]}" if message else code[1]
    text = " ".join(str(error).partition("Debug source:")[0].split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
