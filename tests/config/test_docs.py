"""docs/configuration.md lists every key as the schema has it.  Run with UPDATE_DOCS=1 to rewrite the list."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from litefs.config import loads
from litefs.config.merged import merged_schema
from litefs.config.schema import Schema
from litefs.plugins import BUILTIN, Plugins, load
from litefs.supervisor import from_entry

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN = "UPDATE_DOCS=1 rewrites it -->\n"
END = "<!-- end -->\n"


def reference() -> str:
    schema = Schema(merged_schema(Plugins([BUILTIN])))
    sections = schema.properties(schema.root)
    plain = {name: sub for name, sub in sections.items() if schema.types(sub) != {"object"}}
    parts = ["\n### Top level\n\n" + table(schema, "", plain)]
    for name, sub in sections.items():
        if name not in plain:
            known = {key: child for key, child in schema.properties(sub).items() if schema.types(child) != {"object"}}
            parts.append(f"\n### `{name}`\n\n{sub['description']}\n\n" + table(schema, f"{name}.", known))
    command = schema.root["$defs"]["exec-command"]["properties"]
    parts.append("\n### Entries of `exec`\n\n" + table(schema, "", command))
    return "".join(parts)


def table(schema: Schema, prefix: str, keys: Mapping[str, Mapping[str, Any]]) -> str:
    rows = "".join(row(schema, prefix + name, sub) for name, sub in keys.items())
    return f"| key | type | default | |\n|---|---|---|---|\n{rows}"


def row(schema: Schema, name: str, sub: Mapping[str, Any]) -> str:
    kind = "duration" if schema.keyword(sub, "format") else " or ".join(sorted(schema.types(sub)))
    default = schema.keyword(sub, "default")
    shown = f"`{json.dumps(default).strip(chr(34))}`" if default not in (None, "", []) else ""
    return f"| `{name}` | {kind} | {shown} | {sub['description']} |\n"


def test_the_list_of_keys_is_up_to_date() -> None:
    text = PAGE.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    new = text[:start] + reference() + "\n" + text[end:]
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(new)
    assert new == PAGE.read_text()


def examples(page: Path = PAGE) -> Iterator[str]:
    for block in page.read_text().split("```yaml\n")[1:]:
        yield block[: block.index("```")]


def test_the_example_is_a_configuration() -> None:
    example = next(examples())
    assert loads(example, plugins=load(), environment={"HOSTNAME": "node1"}).lease.candidate is True


def test_the_examples_of_commands_are_configurations() -> None:
    for example in examples(PAGE.with_name("exec.md")):
        for entry in loads(f"lease: {{type: static}}\n{example}", plugins=load(), environment={}).exec:
            from_entry(entry)
