"""The names and values that stand in Consul, to the byte those of LiteFS."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass

from litefs import jsontext
from litefs.errors import ConfigError
from litefs.leases import PrimaryInfo

# What Go's JSON encoder escapes inside strings although it need not.
_GO_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Keys:
    """Where a cluster's entries are.

    Args:
        leader: the key that the primary's session locks.
        node: the catalog node that sessions belong to; empty where they belong to the agent's.
    """

    leader: str
    node: str = ""

    @classmethod
    def join(cls, prefix: str, key: str) -> Keys:
        """The keys below a prefix, which may be empty; stray slashes do not matter.  Raises ConfigError."""
        if not key.strip("/"):
            raise ConfigError("lease.consul.key is empty", "name the key that all nodes of the cluster share")
        prefix = prefix.strip("/")
        return cls(_clean(f"{prefix}/{key}"), _clean(f"{prefix}/litefs") if prefix else "")

    @property
    def cluster_id(self) -> str:
        """The key of the cluster's id."""
        return f"{self.leader}/clusterid"


def _clean(key: str) -> str:
    return posixpath.normpath(key.lstrip("/"))


def encode(info: PrimaryInfo) -> bytes:
    """The value that announces a primary."""
    value = {"hostname": info.hostname, "advertise-url": info.advertise_url}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES).encode()


def decode(value: bytes) -> PrimaryInfo | None:
    """Who is announced; None for the empty value that LiteFS leaves behind.  Raises ValueError."""
    if not value:
        return None
    found = jsontext.loads(value)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    hostname, url = found.get("hostname", ""), found.get("advertise-url", "")
    if not isinstance(hostname, str) or not isinstance(url, str):
        raise ValueError("hostname and advertise-url must be text")
    return PrimaryInfo(hostname, url)
