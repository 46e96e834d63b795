"""From a file to a `Config`: find, expand, parse, validate, complete."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from litefs import plugins as installed
from litefs.catalog import KNOWN
from litefs.config import commands
from litefs.config.checks import cross_problems
from litefs.config.expansion import expand
from litefs.config.merged import installed_types, merged_schema
from litefs.config.model import (
    BackupConfig,
    Config,
    DataConfig,
    ExecCommand,
    FuseConfig,
    HTTPConfig,
    LeaseConfig,
    LogConfig,
    ProxyConfig,
    TracingConfig,
)
from litefs.config.problems import InvalidConfig, Problem
from litefs.config.schema import Json, Schema
from litefs.config.secrets import TOKEN_VARIABLE, check_token, read_token
from litefs.config.source import Document, NotYAML, read
from litefs.config.validation import TYPED_SECTIONS, schema_problems
from litefs.errors import ConfigError
from litefs.plugins import Plugins

T = TypeVar("T")

FILE_NAME = "litefs.yml"


def search_path() -> tuple[Path, ...]:
    """Where litefs.yml is looked for, in this order."""
    return (Path(FILE_NAME).absolute(), Path(os.path.expanduser("~"), FILE_NAME), Path("/etc", FILE_NAME))


def find(path: str | os.PathLike[str] | None = None) -> Path:
    """The file to read: the one given, or else the first of the search path that can be read.  Raises ConfigError."""
    if path is not None:
        return Path(path)
    for candidate in search_path():
        if os.access(candidate, os.R_OK):
            return candidate
    looked = ", ".join(map(str, search_path()))
    raise ConfigError("config file not found", f"looked for {looked}; name one with -config PATH")


@dataclass(frozen=True)
class Checked:
    """A valid document before it becomes a `Config`: what `litefs config show` prints.

    Args:
        path: the file it was read from.
        tree: plain data with defaults filled in; durations are text, as written.
        schema: the merged schema that it satisfies.
        plugins: whose keys are in it.
    """

    path: str
    tree: dict[str, Any]
    schema: Schema
    plugins: Plugins
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def check(
    path: str | os.PathLike[str] | None = None,
    expand_env: bool = True,
    *,
    plugins: Plugins | None = None,
    environment: MutableMapping[str, str] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Checked:
    """Read and check a file; arguments and errors are those of `load`."""
    found = find(path)
    try:
        data = found.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"config file not found: {found}", "name another one with -config PATH") from None
    except OSError as error:
        raise ConfigError(
            f"config file {found} cannot be read: {error.strerror}", "name another with -config PATH"
        ) from None
    if announce:
        announce(f"config file read from {found}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{found}:{line}: not UTF-8 text", "save it as UTF-8") from None
    return check_text(text, expand_env, path=str(found), plugins=plugins, environment=environment)


def check_text(
    text: str,
    expand_env: bool = True,
    *,
    path: str = FILE_NAME,
    plugins: Plugins | None = None,
    environment: MutableMapping[str, str] | None = None,
) -> Checked:
    """Check the text of a litefs.yml; arguments and errors are those of `loads`."""
    environment = os.environ if environment is None else environment
    environment.setdefault("HOSTNAME", socket.gethostname())  # commands inherit it, as under LiteFS
    plugins = installed.load() if plugins is None else plugins
    schema = Schema(merged_schema(plugins))
    try:
        document = read(expand(text, environment) if expand_env else text, schema)
    except NotYAML as error:
        raise ConfigError(f"{path}:{error.line}: {error.reason}") from None
    if document.value is None:
        raise ConfigError(f"{path}: EOF", "the file is empty; it needs at least lease.type")
    if not isinstance(document.value, dict):
        raise ConfigError(f"{path}:1: must hold sections like lease, data and fuse", "see: litefs config schema")
    tree = _valid(path, document, schema, plugins)
    if _imply_backup(document.value, tree, plugins, environment):
        tree = _valid(path, document, schema, plugins)
    _raise_problems(path, document, list(cross_problems(tree, plugins)))
    return Checked(path, tree, schema, plugins, tuple(_warnings(tree, plugins, environment)), environment)


def _valid(path: str, document: Document, schema: Schema, plugins: Plugins) -> dict[str, Any]:
    """The document with defaults.  Raises InvalidConfig where it does not satisfy its schema."""
    _imply_sections(schema, document.value)
    problems = schema_problems(schema, document.value, installed_types(plugins))
    _raise_problems(path, document, [*document.problems, *problems])
    return _complete(schema, document.value)


def load(
    path: str | os.PathLike[str] | None = None,
    expand: bool = True,
    *,
    plugins: Plugins | None = None,
    environment: MutableMapping[str, str] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Config:
    """Read a litefs.yml.

    Args:
        path: the file; None looks for it in `search_path`.
        expand: replace ``${...}`` by environment variables.
        plugins: whose keys are known; None for the installed ones.
        environment: for the expansion; gets HOSTNAME if it lacks it.  None for that of the process.
        announce: called with ``config file read from PATH`` before the content is looked at.

    Raises ConfigError, naming file, line and key; PluginError for a plugin that is at fault.
    """
    return _config(check(path, expand, plugins=plugins, environment=environment, announce=announce))


def loads(
    text: str,
    expand: bool = True,
    *,
    path: str = FILE_NAME,
    plugins: Plugins | None = None,
    environment: MutableMapping[str, str] | None = None,
) -> Config:
    """`load` for text; ``path`` is what errors call it."""
    return _config(check_text(text, expand, path=path, plugins=plugins, environment=environment))


def _raise_problems(path: str, document: Document, problems: list[Problem]) -> None:
    if problems:
        sections = [problem.key[0] for problem in problems if problem.key[1:] == ("type",)]
        # The section of a missing plugin is unknown because its type is: say that once.
        types = [(section, _get(document.value, section, "type")) for section in sections]
        shown = [problem for problem in problems if problem.key not in types] or problems
        raise InvalidConfig(path, ((problem.line or document.line(problem.key), problem) for problem in shown))


def _get(tree: Json, *steps: str | int) -> Any:
    for step in steps:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _imply_sections(schema: Schema, value: dict[str, Any]) -> None:
    """``lease.TYPE`` may be left out where all of its keys have defaults: then it is empty, not absent."""
    for name in TYPED_SECTIONS:
        section = value.get(name)
        chosen = _get(section, "type")
        if isinstance(section, dict) and isinstance(chosen, str):
            known = schema.properties(schema.child(schema.root, name))
            if chosen in known and "object" in schema.types(known[chosen]):
                section.setdefault(chosen, {})


def _complete(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    """Defaults for every top-level section, mentioned or not, and for the plugin sections that are there."""
    sections = schema.properties(schema.root)
    absent = [name for name, sub in sections.items() if schema.types(sub) == {"object"} and name not in value]
    completed: dict[str, Any] = schema.complete(schema.root, {**value, **{name: {} for name in absent}})
    return {name: completed[name] for name in sections if name in completed}


def _imply_backup(
    value: dict[str, Any], tree: Mapping[str, Any], plugins: Plugins, environment: Mapping[str, str]
) -> bool:
    """Without a type the environment may select a backup plugin, as LITEFS_CLOUD_TOKEN does: whether it did."""
    if tree["backup"]["type"]:
        return False
    chosen = next((name for name, spec in plugins.backups.items() if spec.implied(tree["backup"], environment)), "")
    if chosen:
        value.setdefault("backup", {})["type"] = chosen
    return bool(chosen)


def _warnings(tree: dict[str, Any], plugins: Plugins, environment: Mapping[str, str]) -> list[str]:
    """Environment variables that ask for a plugin which is not there, or lacks a setting to be used."""
    types = installed_types(plugins)
    return [
        f"{known.variable} is set, but there is no {known.section}: {known.needs if there else known.installation}"
        for known in KNOWN
        if known.variable and environment.get(known.variable) and not tree[known.section]["type"]
        for there in [known.type in types[known.section]]
    ]


def _config(checked: Checked) -> Config:
    tree: dict[str, Any] = checked.schema.in_seconds(checked.schema.root, checked.tree)
    token = _token(checked.path, tree, "http") or checked.environment.get(TOKEN_VARIABLE, "")
    check_token(token, f"{checked.path}: http.auth-token")
    backup_token = _token(checked.path, tree, "backup")
    return Config(
        path=checked.path,
        exit_on_error=tree["exit-on-error"],
        skip_sync=tree["skip-sync"],
        strict_verify=tree["strict-verify"],
        exec=_exec(tree["exec"], checked.plugins),
        data=_section(DataConfig, tree["data"], dir=_absolute(tree["data"]["dir"])),
        fuse=_section(FuseConfig, tree["fuse"], dir=_absolute(tree["fuse"]["dir"])),
        http=_section(HTTPConfig, tree["http"], auth_token=token),
        proxy=_proxy(tree["proxy"]),
        lease=_section(LeaseConfig, tree["lease"], section=_chosen(tree["lease"])),
        backup=_section(BackupConfig, tree["backup"], auth_token=backup_token, section=_chosen(tree["backup"])),
        log=_section(LogConfig, tree["log"]),
        tracing=_section(TracingConfig, tree["tracing"]),
        warnings=checked.warnings,
        tree=tree,
    )


def _section(kind: type[T], tree: Mapping[str, Any], **given: Any) -> T:
    names = [item.name for item in fields(kind) if item.name not in given]  # type: ignore[arg-type]
    values = {name: tree[name.replace("_", "-")] for name in names}
    frozen = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**frozen, **given)


def _proxy(tree: Mapping[str, Any]) -> ProxyConfig:
    names = tree["db"] if isinstance(tree["db"], list) else [tree["db"]]
    db = names[0] if names else ""
    return _section(ProxyConfig, tree, db=db, databases=tuple(names), section=_chosen(tree), keys=tree)


def _chosen(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    section: Mapping[str, Any] = tree.get(tree["type"], {})
    return section


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(path))


def _exec(tree: str | list[dict[str, Any]], plugins: Plugins) -> tuple[ExecCommand, ...]:
    if isinstance(tree, str):
        return (ExecCommand(tree),) if tree.strip() else ()
    policies = plugins.exec_policies
    return tuple(
        ExecCommand(
            item["cmd"],
            {key: item[key] for key in item if key in policies},
            kind,
            cwd=os.path.abspath(item["cwd"]) if item.get("cwd") else "",
            **commands.options(item, kind, policies),
        )
        for item, kind in zip(tree, commands.kinds(tree, policies), strict=True)
    )


def _token(path: str, tree: Mapping[str, Any], section: str) -> str:
    """The token of a section: its key, or what its file holds.  Errors never show it."""
    if name := tree[section]["auth-token-file"]:
        return read_token(name, f"{path}: {section}.auth-token-file")
    return str(tree[section]["auth-token"])
