"""Finds installed plugins, registers them, and answers what they bring.

Every error names the distribution at fault and how to get rid of it: a plugin that cannot be used stops the start.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from litefs import __version__, builtin, hookspecs
from litefs.errors import PluginError
from litefs.extensions import BackupSpec, CommandSpec, ConfigSection, ExecPolicy, ProxySpec, ServiceSpec
from litefs.hookspecs import GROUP
from litefs.leases import LeaserSpec

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

T = TypeVar("T")

KERNEL = "litefs-core"


@dataclass(frozen=True)
class Plugin:
    """One plugin: a module or object with hook implementations.

    Args:
        name: its name in the entry-point group, unique among the installed.
        implementation: the module or object.
        entry_point: where it comes from; None for what is built in or registered by a test.
    """

    name: str
    implementation: object
    entry_point: EntryPoint | None = None

    @property
    def distribution(self) -> str:
        """Name of the installed distribution that brings it."""
        dist = self.entry_point.dist if self.entry_point else None
        return dist.name if dist else KERNEL if self.implementation is builtin else self.name

    @property
    def version(self) -> str:
        """Version of the distribution; empty where unknown."""
        dist = self.entry_point.dist if self.entry_point else None
        return dist.version if dist else __version__ if self.implementation is builtin else ""

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f'plugin "{self.name}" (distribution {self.distribution}{version})'

    def fault(self, what: str) -> PluginError:
        """An error that blames this plugin."""
        return PluginError(f"{self} {what}", f"upgrade it, or remove it with: pip uninstall {self.distribution}")


class Plugins:
    """A set of registered plugins.  Raises PluginError, also from its properties, naming the plugin at fault."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._plugins: dict[str, Plugin] = {}
        self._records: dict[str, list[tuple[Plugin, Any]]] = {}
        for plugin in plugins:
            self._register(plugin)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise self._blame(error.plugin).fault(f"implements an unknown hook: {error}") from None

    def _register(self, plugin: Plugin) -> None:
        if plugin.name in self._plugins:
            other = self._plugins[plugin.name]
            raise plugin.fault(f"has the name of another one, that of distribution {other.distribution}")
        self._plugins[plugin.name] = plugin
        try:
            self._manager.register(plugin.implementation, plugin.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise plugin.fault(f"cannot be registered: {error}") from error
        for caller in self._manager.get_hookcallers(plugin.implementation) or ():
            for implementation in caller.get_hookimpls():
                if inspect.iscoroutinefunction(implementation.function):
                    raise plugin.fault(f"has an async {caller.name}: hooks are plain functions that return objects")

    def _blame(self, implementation: object) -> Plugin:
        return next(plugin for plugin in self._plugins.values() if plugin.implementation is implementation)

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._plugins.values())

    def hooks(self, plugin: Plugin) -> tuple[str, ...]:
        """Names of the hooks that a plugin implements."""
        return tuple(sorted(caller.name for caller in self._manager.get_hookcallers(plugin.implementation) or ()))

    def records(self, hook: str, kind: type[T]) -> list[tuple[Plugin, T]]:
        """What all implementations of a hook return, each with the plugin that it comes from."""
        if hook not in self._records:
            self._records[hook] = [
                (plugin, record)
                for implementation in getattr(self._manager.hook, hook).get_hookimpls()
                for plugin in [self._plugins[implementation.plugin_name]]
                for record in _call(plugin, hook, implementation.function, kind)
            ]
        return self._records[hook]

    def owner(self, record: object) -> Plugin:
        """The plugin that brought a record."""
        found = (plugin for records in self._records.values() for plugin, known in records if known is record)
        return next(found)

    def _unique(self, hook: str, kind: type[T], key: Callable[[T], str], noun: str) -> Mapping[str, T]:
        owners: dict[str, Plugin] = {}
        unique: dict[str, T] = {}
        for plugin, record in self.records(hook, kind):
            name = key(record)
            if name in unique:
                raise plugin.fault(f'brings the {noun} "{name}", as {owners[name]} does')
            owners[name], unique[name] = plugin, record
        return unique

    @cached_property
    def leasers(self) -> Mapping[str, LeaserSpec]:
        """Lease types by name."""
        return self._unique("litefs_leasers", LeaserSpec, lambda spec: spec.type, "lease type")

    @cached_property
    def backups(self) -> Mapping[str, BackupSpec]:
        """Backup types by name."""
        return self._unique("litefs_backups", BackupSpec, lambda spec: spec.type, "backup type")

    @cached_property
    def proxies(self) -> Mapping[str, ProxySpec]:
        """Proxy types by name."""
        return self._unique("litefs_proxies", ProxySpec, lambda spec: spec.type, "proxy type")

    @cached_property
    def services(self) -> Mapping[str, ServiceSpec]:
        """Services by name."""
        return self._unique("litefs_services", ServiceSpec, lambda spec: spec.name, "service")

    @cached_property
    def exec_policies(self) -> Mapping[str, ExecPolicy]:
        """Exec policies by their key."""
        return self._unique("litefs_exec_policies", ExecPolicy, lambda policy: policy.key, "exec policy")

    @cached_property
    def commands(self) -> Mapping[str, CommandSpec]:
        """Sub-commands by name, the kernel's included."""
        return self._unique("litefs_commands", CommandSpec, lambda spec: spec.name, "command")

    @cached_property
    def metrics(self) -> Sequence[Collector]:
        """Prometheus collectors of plugins; the same objects at each access."""
        return [collector for _, collector in self.records("litefs_metrics", object)]  # type: ignore[misc]

    @cached_property
    def config_sections(self) -> Sequence[tuple[Plugin, ConfigSection]]:
        """Keys of litefs.yml with the plugin that brings them, those of lease, backup and proxy types included."""
        sections = list(self.records("litefs_config_sections", ConfigSection))
        for name, specs in (
            ("lease", self.records("litefs_leasers", LeaserSpec)),
            ("backup", self.records("litefs_backups", BackupSpec)),
            ("proxy", self.records("litefs_proxies", ProxySpec)),
        ):
            sections += [(plugin, ConfigSection(f"{name}.{spec.type}", spec.schema)) for plugin, spec in specs]
        return sections


def _call(plugin: Plugin, hook: str, function: Callable[[], Any], kind: type[T]) -> list[T]:
    try:
        records = list(function())
    except Exception as error:
        raise plugin.fault(f"failed in {hook}: {type(error).__name__}: {error}") from error
    for record in records:
        if not isinstance(record, kind):
            raise plugin.fault(f"returned a {type(record).__name__} from {hook}, where {kind.__name__} is expected")
    return records


BUILTIN = Plugin("kernel", builtin)


def discover() -> Iterator[Plugin]:
    """The plugins of all installed distributions.  Raises PluginError for one that cannot be imported."""
    for entry_point in sorted(entry_points(group=GROUP), key=lambda entry_point: entry_point.name):
        plugin = Plugin(entry_point.name, None, entry_point)
        try:
            implementation = entry_point.load()
        except Exception as error:  # whatever an import can raise: it is the plugin's
            raise plugin.fault(f"cannot be imported: {type(error).__name__}: {error}") from error
        yield Plugin(entry_point.name, implementation, entry_point)


@functools.cache
def load() -> Plugins:
    """The built-in and the installed plugins; found once per process."""
    return Plugins([BUILTIN, *discover()])
