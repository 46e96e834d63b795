"""Reference pages, made from the schema and the commands.  The tests that use this rewrite them with UPDATE_DOCS=1."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from litefs.cli.table import load_command
from litefs.config.merged import merged_schema
from litefs.config.schema import Schema
from litefs.plugins import BUILTIN, Plugins, load

DOCS = Path(__file__).parents[2] / "docs"
BEGIN = "UPDATE_DOCS=1 rewrites it -->\n"
END = "<!-- end -->\n"
WIDTH = 100


def assert_current(page: Path, content: str) -> None:
    """The generated part of a page is this; with UPDATE_DOCS=1 it is made so."""
    text = page.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    new = text[:start] + content + "\n" + text[end:]
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(new)
    assert new == page.read_text(), f"{page.name} is out of date: run the test with UPDATE_DOCS=1"


def kernel_keys() -> str:
    """The keys of the kernel."""
    schema = Schema(merged_schema(Plugins([BUILTIN])))
    sections = schema.properties(schema.root)
    plain = {name: sub for name, sub in sections.items() if schema.types(sub) != {"object"}}
    parts = ["\n### Top level\n\n" + table(schema, "", plain)]
    for name, sub in sections.items():
        if name not in plain:
            known = {key: child for key, child in schema.properties(sub).items() if schema.types(child) != {"object"}}
            parts.append(
                f"\n### `{name}`\n\n{sub['description']}\n\n"
                + table(schema, f"{name}.", known, sub.get("required", ()))
            )
    command = schema.root["$defs"]["exec-command"]
    parts.append("\n### Entries of `exec`\n\n" + table(schema, "", command["properties"], command.get("required", ())))
    return "".join(parts)


def plugin_keys() -> str:
    """The keys of the plugins in this repository, by distribution."""
    plugins = load()
    kernel, merged = Schema(merged_schema(Plugins([BUILTIN]))), Schema(merged_schema(plugins))
    found: dict[str, list[str]] = {}
    for plugin, section in plugins.config_sections:
        if plugin.distribution == BUILTIN.distribution or not section.schema.get("properties"):
            continue
        known = kernel.root
        for name in section.name.split("."):
            known = kernel.properties(known).get(name, {}) if known else {}
        own = Schema(
            {**merged.root, **section.schema, "$defs": {**merged.root["$defs"], **section.schema.get("$defs", {})}}
        )
        keys = {
            name: sub
            for name, sub in own.properties(own.root).items()
            if not known or name not in kernel.properties(known)
        }
        found.setdefault(plugin.distribution, []).append(
            f"\n### `{section.name}`\n\n" + table(own, f"{section.name}.", keys, section.schema.get("required", ()))
        )
    return "".join(f"\n## {name}\n" + "".join(parts) for name, parts in sorted(found.items()))


def table(schema: Schema, prefix: str, keys: Mapping[str, Mapping[str, Any]], required: Collection[str] = ()) -> str:
    """A table of keys."""
    rows = "".join(row(schema, prefix + name, sub, required=name in required) for name, sub in keys.items())
    return f"| key | type | default | |\n|---|---|---|---|\n{rows}"


def row(schema: Schema, name: str, sub: Mapping[str, Any], *, required: bool = False) -> str:
    """The line of a key."""
    kind = "duration" if schema.keyword(sub, "format") else " or ".join(sorted(schema.types(sub)))
    default = schema.keyword(sub, "default")
    shown = f"`{json.dumps(default).strip(chr(34))}`" if default not in (None, "", []) else ""
    return f"| `{name}` | {kind} | {'required' if required else shown} | {sub['description']} |\n"


def command_help() -> str:
    """What ``-h`` says, for each command and sub-command."""
    parts = []
    for name, spec in load().commands.items():
        for words, command in _with_subcommands(f"litefs {name}", load_command(name)):
            context = click.Context(command, info_name=words, terminal_width=WIDTH, max_content_width=WIDTH)
            context.help_option_names = command.context_settings.get("help_option_names", ["--help"])
            depth = "##" if words == f"litefs {name}" else "###"
            said = f"\n{spec.summary[0].upper()}{spec.summary[1:]}.\n" if depth == "##" else ""
            parts.append(f"\n{depth} `{words}`\n{said}\n```text\n{command.get_help(context)}\n```\n")
    return "".join(parts)


def _with_subcommands(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from _with_subcommands(f"{words} {name}", sub)
