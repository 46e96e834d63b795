"""``litefs plugin new``: a distribution that works from the start, to be changed into a plugin of one's own.

The templates are complete plugins called "sample", which are checked like the rest of the source. A new plugin is a
copy of one with other names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from litefs.cli.flags import flag, go_command
from litefs.errors import ConfigError

TEMPLATES = Path(__file__).parents[1] / "templates"

KINDS = ("lease", "backup", "proxy", "exec")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.group("plugin", context_settings={"help_option_names": ["-h", "-help", "--help"]})
def command() -> None:
    """Begin a plugin of your own."""


@go_command("new")
@flag("dir", default="", metavar="DIR", help="where to put it; default: litefs-KIND-NAME in the working directory")
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@click.argument("name")
def new(kind: str, name: str, dir: str) -> None:
    """Make a plugin that installs, is found, and passes its conformance suite, as a start for your own.

    KIND is lease, backup, proxy or exec. NAME is the word for litefs.yml: of the type, or the key of an exec policy.
    """
    check_name(kind, name)
    target = Path(dir or f"litefs-{kind}-{name}")
    create(kind, name, target)
    click.echo(f"made {target}; try it with")
    click.echo(f"  cd {target}")
    click.echo("  pip install -e '.[test]'")
    click.echo("  pytest")
    click.echo("  litefs plugins")
    click.echo(f"and read on in {target / 'README.md'}.")


command.add_command(new)


def check_name(kind: str, name: str) -> None:
    """Raise ConfigError for a name that cannot be, or that another plugin has."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f'a plugin cannot be called "{name}"', "use lower-case letters and digits, words with dashes")
    from litefs.catalog import known_types
    from litefs.plugins import load

    plugins = load()
    taken = {
        "lease": plugins.leasers,
        "backup": plugins.backups,
        "proxy": plugins.proxies,
        "exec": plugins.exec_policies,
    }[kind]
    if name in taken or name in known_types(kind):
        raise ConfigError(f'there is one called "{name}" for {kind} already', "find another name")


def create(kind: str, name: str, target: Path) -> None:
    """Write the plugin.  Raises ConfigError where something is in the way, or the place cannot be written to."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already", "remove it, or name another with -dir")
    try:
        for path, text in files(kind, name):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename or target}: {error.strerror}") from error


def files(kind: str, name: str) -> Iterator[tuple[Path, str]]:
    """Path and content of each file of a new plugin."""
    template = TEMPLATES / kind
    for path in sorted(template.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            renamed = Path(renamed_text(kind, name, str(path.relative_to(template))))
            yield renamed, renamed_text(kind, name, path.read_text("utf-8"))


def renamed_text(kind: str, name: str, text: str) -> str:
    """A template's text renamed: ``lease_sample`` in identifiers, ``Sample`` in classes, ``sample`` elsewhere."""
    identifier = name.replace("-", "_")
    text = text.replace(f"{kind}_sample", f"{kind}_{identifier}")
    text = text.replace("Sample", "".join(word.capitalize() for word in name.split("-")))
    return text.replace("sample", name)
