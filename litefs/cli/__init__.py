"""The ``litefs`` command: finds the sub-command, runs it, turns failures into exit codes.

Start-up time counts (``mount`` must be mounted within 0.3 s), so only the module of the invoked command is imported,
and plugins are loaded here only when the name is not one of the kernel's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from litefs.cli.table import load_command
from litefs.kernel_commands import KERNEL_COMMANDS

USAGE_HEAD = """\
litefs replicates SQLite databases across machines under an unchanged application.

Usage:

  litefs COMMAND [FLAGS] [ARGUMENTS]

Commands:

"""

USAGE_TAIL = """
Flags take one or two dashes.  Use "litefs COMMAND -h" for a command's flags.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for failures, 2 for usage and configuration errors.

    Args:
        argv: the arguments after the program's name; those of the process if None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except BaseException as error:
        from litefs.cli.failures import report  # late: a good run never needs it

        return report(error)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-") or arguments == ["help"]:
        print(usage(), end="")
        return 2
    name, *rest = arguments
    if name == "help":
        name, *rest = *rest[:1], "-h"
    command = load_command(name)
    result = command.main(args=rest, prog_name=f"litefs {name}", standalone_mode=False)
    return result if isinstance(result, int) else 0


def usage() -> str:
    """The text shown by plain ``litefs``: every command with its summary, those of plugins included."""
    from litefs.cli.table import plugin_commands
    from litefs.errors import LitefsError

    commands = list(KERNEL_COMMANDS)
    note = ""
    try:
        commands += plugin_commands()
    except LitefsError as error:  # a broken plugin must not take the help away
        note = f"\nCommands of plugins are missing here: {error}\n"
    width = max(len(command.name) for command in commands)
    lines = "".join(f"  {command.name:{width}}  {command.summary}\n" for command in commands)
    return USAGE_HEAD + lines + note + USAGE_TAIL
