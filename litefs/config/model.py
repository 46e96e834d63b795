"""litefs.yml as the rest of the program sees it: frozen, complete, checked.

Durations are seconds.  Defaults come from the schema, so none are repeated here; make one from text with
`litefs.config.loads`.  Field names are the keys with underscores for dashes; schema/litefs.schema.json explains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litefs.config.addresses import split_address
from litefs.config.commands import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseConfig:
    """``fuse``: the mount.  ``dir`` is absolute."""

    dir: Path
    allow_other: bool
    unjournaled_writes: str
    debug: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """``data``: the data directory.  ``dir`` is absolute."""

    dir: Path
    compress: bool
    retention: float
    retention_monitor_interval: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPConfig:
    """``http``: the API.

    ``auth_token`` is the token wherever it comes from: the key, the file, or the environment.
    """

    addr: str
    snapshot_timeout: float
    auth_token: str = field(repr=False)
    tls_cert: str
    tls_key: str
    auth_exempt: tuple[str, ...]
    tls_ca: str
    tls_client_ca: str

    @property
    def host(self) -> str:
        """The interface to listen on; empty for all."""
        return split_address(self.addr)[0]

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system choose."""
        return split_address(self.addr)[1]

    @property
    def secure(self) -> bool:
        """Whether TLS is on."""
        return bool(self.tls_cert)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """``proxy``: it runs where ``target`` is not empty.

    ``db`` is the first of ``databases``, or empty.  ``section`` is ``proxy.TYPE``, the plugin's own keys; ``keys`` has
    those of ``proxy`` itself as they are written, and with them what plugins added to the section.
    """

    type: str
    addr: str
    target: str
    db: str
    databases: tuple[str, ...]
    max_lag: float
    debug: bool
    passthrough: tuple[str, ...]
    always_forward: tuple[str, ...]
    primary_redirect_timeout: float
    read_timeout: float
    read_header_timeout: float
    write_timeout: float
    idle_timeout: float
    section: Mapping[str, Any] = field(repr=False)
    keys: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseConfig:
    """``lease``.  ``section`` is ``lease.TYPE``, the plugin's own keys.

    ``hostname`` and ``advertise_url`` may be empty: what that means is the plugin's to say.
    """

    type: str
    hostname: str
    advertise_url: str
    candidate: bool
    promote: bool
    reconnect_delay: float
    demote_delay: float
    databases: tuple[str, ...]
    section: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupConfig:
    """``backup``: there is none where ``type`` is empty.  ``section`` is ``backup.TYPE``, the plugin's own keys.

    ``auth_token`` holds the content of ``auth-token-file`` where that is given; ``on_mismatch`` is ``restore``,
    ``keep-local`` or ``stop``.
    """

    type: str
    path: str
    url: str
    cluster: str
    auth_token: str = field(repr=False)
    on_mismatch: str
    section: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """``log``.  ``format`` is ``text`` or ``json``."""

    format: str
    timestamp: bool
    debug: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """``tracing``.  ``max_size`` is in MB; nothing is written where ``path`` is empty."""

    enabled: bool
    path: str
    max_size: int
    max_count: int
    compress: bool


@dataclass(frozen=True, slots=True)
class ExecCommand:
    """One entry of ``exec``, its options complete. The defaults here are those of LiteFS's supervised command.

    Args:
        cmd: the command line, not yet split into words.
        policies: the values of the policy keys that are given, by key (``if-candidate``).
        kind: see `Kind`.
        name: what its output is marked with; empty for the name of its program.
        restart: ``no``, ``on-failure`` or ``always``.
        essential: whether its end is the node's.
        env: environment variables besides the node's own.
        cwd: where it runs, absolute; empty for the node's working directory.
        signal: number of the signal that asks it to end; None for SIGTERM, or what the node itself got.
        grace: seconds from that signal to SIGKILL; None for no limit when the node ends.
    """

    cmd: str
    policies: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.MAIN
    name: str = ""
    restart: str = "no"
    essential: bool = True
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str = ""
    signal: int | None = None
    grace: float | None = None

    @property
    def if_candidate(self) -> bool:
        """Whether it is for candidates only."""
        return bool(self.policies.get("if-candidate", False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole litefs.yml.

    Args:
        path: the file it was read from; empty for text.
        warnings: what deserves a line in the log though it is no error.
        tree: every section as plain data with defaults filled in and durations in seconds; see `section`.
    """

    path: str
    exit_on_error: bool
    skip_sync: bool
    strict_verify: bool
    exec: tuple[ExecCommand, ...]
    data: DataConfig
    fuse: FuseConfig
    http: HTTPConfig
    proxy: ProxyConfig
    lease: LeaseConfig
    backup: BackupConfig
    log: LogConfig
    tracing: TracingConfig
    warnings: tuple[str, ...] = ()
    tree: Mapping[str, Any] = field(repr=False)

    def section(self, name: str) -> Mapping[str, Any]:
        """The content of a top-level section that a plugin brings, keys as written; empty where it is absent."""
        found: Mapping[str, Any] = self.tree.get(name, {})
        return found
