"""Which commands there are, and where each one lives; a module is imported only when its command is used.

A kernel command is a line in `litefs.kernel_commands` and a module here with a ``click.Command`` called ``command``.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

from litefs.errors import LitefsError, PluginError
from litefs.kernel_commands import KERNEL_COMMANDS

if TYPE_CHECKING:
    import click

    from litefs.extensions import CommandSpec


class UnknownCommand(LitefsError):
    """The first argument names no command."""


def plugin_commands() -> list[CommandSpec]:
    """The commands that installed plugins bring.  Raises PluginError naming the one at fault."""
    from litefs import plugins  # late: costs about 30 ms that kernel commands need not pay

    kernel = {spec.name for spec in KERNEL_COMMANDS}
    return [spec for name, spec in plugins.load().commands.items() if name not in kernel]


def load_command(name: str) -> click.Command:
    """The command called ``name``.  Raises UnknownCommand, or PluginError where a plugin's command cannot be had."""
    spec = next((spec for spec in KERNEL_COMMANDS if spec.name == name), None)
    if spec is not None:
        return _load(spec)
    found = {spec.name: spec for spec in plugin_commands()}
    if name not in found:
        names = [*(spec.name for spec in KERNEL_COMMANDS), *found]
        close = difflib.get_close_matches(name, names, 1)
        raise UnknownCommand(f"litefs {name}: unknown command", f'did you mean "{close[0]}"?' if close else "")
    try:
        return _load(found[name])
    except (ImportError, AttributeError) as error:
        raise PluginError(f'command "{name}" cannot be loaded from {found[name].target}: {error}') from error


def _load(spec: CommandSpec) -> click.Command:
    module, _, attribute = spec.target.partition(":")
    command: click.Command = getattr(import_module(module), attribute)
    return command
