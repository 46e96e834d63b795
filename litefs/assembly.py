"""Makes the parts of a node that plugins bring, as the configuration names them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from litefs.config import Config
from litefs.errors import LitefsError
from litefs.extensions import Backup, BackupSpec, ProxySpec, Service, ServiceSpec
from litefs.leases import Leaser, LeaserSpec, NodeInfo
from litefs.plugins import Plugins

T = TypeVar("T")
Spec = LeaserSpec | BackupSpec | ProxySpec | ServiceSpec


def node_info(config: Config, http_port: int | None = None) -> NodeInfo:
    """What factories are told.  ``http_port`` is the port in use where the system chose it."""
    return NodeInfo(socket.gethostname(), http_port or config.http.port, config.http.secure)


def make_leaser(plugins: Plugins, config: Config, node: NodeInfo) -> Leaser:
    """The leaser for ``lease.type``.  Raises ConfigError, or PluginError naming the plugin."""
    spec = plugins.leasers[config.lease.type]
    return _make(plugins, spec, lambda: spec.factory(config.lease, node))


def make_backup(plugins: Plugins, config: Config, node: NodeInfo) -> Backup | None:
    """The backup service for ``backup.type``, or None where there is none.  Raises as `make_leaser`."""
    if not config.backup.type:
        return None
    spec = plugins.backups[config.backup.type]
    return _make(plugins, spec, lambda: spec.factory(config.backup, node))


def make_proxy(plugins: Plugins, config: Config, node: NodeInfo) -> Service | None:
    """The proxy for ``proxy.type``, or None where there is no target.  Raises as `make_leaser`."""
    if not config.proxy.target:
        return None
    spec = plugins.proxies[config.proxy.type]
    return _make(plugins, spec, lambda: spec.factory(config.proxy, node))


def make_services(plugins: Plugins, config: Config, node: NodeInfo) -> dict[str, Service]:
    """The services that are wanted, by name.  Raises as `make_leaser`."""
    found: dict[str, Service] = {}
    for name, spec in plugins.services.items():
        service = _make(plugins, spec, partial(spec.factory, config, node))
        if service is not None:
            found[name] = service
    return found


def _make(plugins: Plugins, spec: Spec, factory: Callable[[], T]) -> T:
    try:
        return factory()
    except LitefsError:
        raise  # worded by the plugin for its user
    except Exception as error:
        name = spec.name if isinstance(spec, ServiceSpec) else spec.type
        raise plugins.owner(spec).fault(f'cannot make "{name}": {type(error).__name__}: {error}') from error
