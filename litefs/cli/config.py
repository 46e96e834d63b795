"""``litefs config``: check, show and describe litefs.yml."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from litefs.cli.flags import flag, go_command, switch

if TYPE_CHECKING:
    from litefs.supervisor import Command


@click.group("config", context_settings={"help_option_names": ["-h", "-help", "--help"]})
def command() -> None:
    """Check, show or describe litefs.yml."""


def _which_file(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that say which file is meant and how it is read, as `mount` has them."""
    function = switch("no-expand-env", help="leave ${NAME} as it is")(function)
    return flag("config", help="path of litefs.yml; default: the search path", metavar="PATH")(function)


@go_command("check")
@_which_file
def check(config: str | None, no_expand_env: bool) -> None:
    """Say whether litefs.yml is right, or everything that is wrong with it."""
    from litefs import assembly, plugins
    from litefs import config as configuration
    from litefs.supervisor import from_entry

    loaded = configuration.load(config, not no_expand_env)
    warnings = [*loaded.warnings, *_missing(map(from_entry, loaded.exec))]
    node = assembly.node_info(loaded)
    for make in (assembly.make_leaser, assembly.make_backup, assembly.make_proxy):
        make(plugins.load(), loaded, node)  # opens nothing, but refuses what only the plugin can judge
    for warning in warnings:
        click.echo(f"WARNING: {warning}", err=True)
    click.echo(f"{loaded.path}: ok")


def _missing(commands: Iterable[Command]) -> Iterator[str]:
    """A warning for each command whose program is not here: it may be where the file is meant for."""
    for command in commands:
        path = command.entry.env.get("PATH")
        program = os.path.join(command.entry.cwd, command.argv[0]) if "/" in command.argv[0] else command.argv[0]
        if shutil.which(program, path=path) is None:
            yield f'exec: there is no program "{program}" on this machine'


@go_command("show")
@_which_file
@switch("show-secrets", help="print tokens and passwords, too")
def show(config: str | None, no_expand_env: bool, show_secrets: bool) -> None:
    """Print the configuration with variables expanded and defaults filled in.  Secrets are masked."""
    import yaml

    from litefs import config as configuration
    from litefs.config.masking import masked

    checked = configuration.check(config, not no_expand_env)
    tree = checked.tree if show_secrets else masked(checked.schema, checked.tree)
    click.echo(f"# {checked.path}")
    click.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120), nl=False)


@go_command("schema")
def schema() -> None:
    """Print the JSON Schema of litefs.yml with the installed plugins: for completion in editors."""
    import json

    from litefs import plugins
    from litefs.config.merged import merged_schema

    click.echo(json.dumps(merged_schema(plugins.load()), indent=2, ensure_ascii=False))


for _subcommand in (check, show, schema):
    command.add_command(_subcommand)
