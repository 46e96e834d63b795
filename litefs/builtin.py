"""What the kernel itself brings, registered through the hooks that third parties use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from litefs.extensions import CommandSpec, ConfigSection, ExecContext, ExecPolicy
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
            schema={
                "description": "Run the command only on nodes that may become primary.",
                "type": "boolean",
            },
            admits=_if_candidate,
            reason="node is not a candidate",
        )
    ]


def _if_candidate(wanted: bool, context: ExecContext) -> bool:
    return context.candidate or not wanted


@hookimpl
def litefs_commands() -> Sequence[CommandSpec]:
    return KERNEL_COMMANDS
