"""Every hook a plugin can implement.

A plugin is a module (or object) named by an entry point of the group ``litefs``.  All hooks are synchronous, take no
arguments and return a list of records; they are called once, when the plugins are loaded.  docs/plugins.md has an
example of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from litefs.extensions import BackupSpec, CommandSpec, ConfigSection, ExecPolicy, ProxySpec, ServiceSpec
from litefs.leases import LeaserSpec

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

GROUP = "litefs"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def litefs_leasers() -> Sequence[LeaserSpec]:  # type: ignore[empty-body]
    """Lease types: how nodes agree who is primary (``lease.type``)."""


@hookspec
def litefs_backups() -> Sequence[BackupSpec]:  # type: ignore[empty-body]
    """Backup types: where transactions go for safekeeping (``backup.type``)."""


@hookspec
def litefs_proxies() -> Sequence[ProxySpec]:  # type: ignore[empty-body]
    """Proxy types: how HTTP requests reach the primary and read their own writes (``proxy.type``)."""


@hookspec
def litefs_services() -> Sequence[ServiceSpec]:  # type: ignore[empty-body]
    """Parts that run beside a node for as long as it lives, whatever its configuration names."""


@hookspec
def litefs_exec_policies() -> Sequence[ExecPolicy]:  # type: ignore[empty-body]
    """Rules about which ``exec`` commands run on a node; each is a key beside ``cmd``."""


@hookspec
def litefs_commands() -> Sequence[CommandSpec]:  # type: ignore[empty-body]
    """Sub-commands of ``litefs``."""


@hookspec
def litefs_metrics() -> Sequence[Collector]:  # type: ignore[empty-body]
    """Prometheus collectors whose metrics ``/metrics`` shows beside the kernel's."""


@hookspec
def litefs_config_sections() -> Sequence[ConfigSection]:  # type: ignore[empty-body]
    """Further keys of litefs.yml: the plugin's own top-level section, or more properties in an existing one."""
