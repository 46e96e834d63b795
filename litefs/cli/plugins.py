"""``litefs plugins``."""

from __future__ import annotations

import click

from litefs.cli.flags import go_command
from litefs.cli.rows import table
from litefs.extensions import BackupSpec, CommandSpec, ConfigSection, ExecPolicy, ProxySpec, ServiceSpec
from litefs.leases import LeaserSpec
from litefs.plugins import Plugin, Plugins, load

# Hook -> what it brings, in a word; the type of its records; their attribute that is a name.
_HOOKS: dict[str, tuple[str, type[object], str]] = {
    "litefs_leasers": ("lease", LeaserSpec, "type"),
    "litefs_backups": ("backup", BackupSpec, "type"),
    "litefs_proxies": ("proxy", ProxySpec, "type"),
    "litefs_services": ("service", ServiceSpec, "name"),
    "litefs_exec_policies": ("exec policy", ExecPolicy, "key"),
    "litefs_commands": ("command", CommandSpec, "name"),
    "litefs_metrics": ("metrics", object, ""),
    "litefs_config_sections": ("config", ConfigSection, "name"),
}


@go_command("plugins")
def command() -> None:
    """List the plugins that are installed, the built-in one included, and what each brings."""
    plugins = load()
    rows = [("PLUGIN", "VERSION", "DISTRIBUTION", "BRINGS")]
    rows += [(plugin.name, plugin.version, plugin.distribution, brings(plugins, plugin)) for plugin in plugins]
    for line in table(rows):
        click.echo(line)


def brings(plugins: Plugins, plugin: Plugin) -> str:
    """What a plugin brings, like ``lease: consul; command: consul-keys``."""
    return "; ".join(_hook(plugins, plugin, hook) for hook in _HOOKS if hook in plugins.hooks(plugin))


def _hook(plugins: Plugins, plugin: Plugin, hook: str) -> str:
    word, kind, attribute = _HOOKS[hook]
    if not attribute:
        return word
    names = [getattr(record, attribute) for owner, record in plugins.records(hook, kind) if owner is plugin]
    return f"{word}: {', '.join(names)}"
