"""What the kernel itself brings, registered through the hooks that third parties use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from litefs.extensions import CommandSpec, ConfigSection, ExecPolicy
from litefs.hookspecs import hookimpl
from litefs.kernel_commands import KERNEL_COMMANDS

SCHEMA_FILE = "litefs.schema.json"


def kernel_schema() -> dict[str, Any]:
    """The JSON Schema of the kernel's sections: from the wheel, or from the source tree."""
    shipped = files("litefs") / "schema" / SCHEMA_FILE
    source = Path(__file__).parents[1] / "schema" / SCHEMA_FILE
    text = shipped.read_text("utf-8") if shipped.is_file() else source.read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@hookimpl
def litefs_config_sections() -> Sequence[ConfigSection]:
    return [ConfigSection(name, schema) for name, schema in kernel_schema()["properties"].items()]


@hookimpl
def litefs_exec_policies() -> Sequence[ExecPolicy]:
    return [
        ExecPolicy(
            key="if-candidate",
            schema=_switch("Run the command only on nodes that may become primary."),
            admits=lambda wanted, context: context.candidate or not wanted,
            reason="node is not a candidate",
        ),
        ExecPolicy(
            key="if-primary",
            schema=_switch("Run the command while this node is primary: started and stopped with the role."),
            admits=lambda wanted, context: context.is_primary or not wanted,
            reason="node is not primary",
            service=True,
        ),
        ExecPolicy(
            key="if-replica",
            schema=_switch("Run the command while this node is not primary: started and stopped with the role."),
            admits=lambda wanted, context: not (context.is_primary and wanted),
            reason="node is primary",
            service=True,
        ),
        ExecPolicy(
            key="once-on-primary",
            schema=_switch(
                "Run the command to completion on the node that is primary; the others wait until it has, and until "
                "what it wrote has arrived. For migrations."
            ),
            admits=lambda wanted, context: True if context.is_primary or not wanted else None,
            reason="it is the primary's to run",
            service=False,
        ),
    ]


def _switch(description: str) -> dict[str, Any]:
    return {"description": description, "type": "boolean"}


@hookimpl
def litefs_commands() -> Sequence[CommandSpec]:
    return KERNEL_COMMANDS
