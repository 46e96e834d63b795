"""One JSON Schema of litefs.yml out of what the kernel and the installed plugins bring."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from litefs.builtin import kernel_schema
from litefs.catalog import KNOWN
from litefs.extensions import ConfigSection
from litefs.plugins import Plugin, Plugins


def merged_schema(plugins: Plugins) -> dict[str, Any]:
    """The schema that a litefs.yml has to satisfy with these plugins.

    Raises PluginError, naming the plugin, where two of them define the same key.
    """
    schema = {**kernel_schema(), "properties": {}}
    for plugin, section in plugins.config_sections:
        _add(schema, plugin, section)
    policies = schema["$defs"]["exec-command"]["properties"]
    for key, policy in plugins.exec_policies.items():
        policies[key] = dict(policy.schema)
    for name, types in installed_types(plugins).items():
        key = schema["properties"][name]["properties"]["type"]
        # The default is a word that nobody wrote: whether its plugin is there matters only where it is used.
        key["enum"] = sorted({*types, *([key["default"]] if "default" in key else [])})
    _tolerate_missing_plugins(schema)
    return schema


def installed_types(plugins: Plugins) -> dict[str, list[str]]:
    """What ``lease.type``, ``backup.type`` and ``proxy.type`` can be with these plugins."""
    return {"lease": sorted(plugins.leasers), "backup": sorted(plugins.backups), "proxy": sorted(plugins.proxies)}


def _add(schema: dict[str, Any], plugin: Plugin, section: ConfigSection) -> None:
    *outer, last = section.name.split(".")
    place = schema
    for name in outer:
        place = place.get("properties", {}).get(name)
        if place is None:
            raise plugin.fault(f'adds "{section.name}" to litefs.yml, but there is no section "{name}"')
    properties = place.setdefault("properties", {})
    if last not in properties:
        properties[last] = copy.deepcopy(dict(section.schema))
        return
    _extend(properties[last], plugin, section)


def _extend(existing: dict[str, Any], plugin: Plugin, section: ConfigSection) -> None:
    """More properties for an object that is there already."""
    added: Mapping[str, Any] = section.schema.get("properties", {})
    clash = sorted(existing.get("properties", {}).keys() & added.keys())
    if clash or not added or existing.get("type") != "object":
        what = f"{section.name}.{clash[0]}" if clash else section.name
        raise plugin.fault(f'defines "{what}" of litefs.yml, which is defined already')
    existing["properties"].update(copy.deepcopy(dict(added)))


def _tolerate_missing_plugins(schema: dict[str, Any]) -> None:
    """A section for a known plugin that is neither installed nor selected does no harm: LiteFS accepts it."""
    for known in KNOWN:
        properties = schema["properties"][known.section]["properties"]
        if known.type not in properties:
            properties[known.type] = {"description": f"Needs: pip install {known.distribution}", "type": "object"}
