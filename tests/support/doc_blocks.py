"""Blocks of the documentation that somebody will copy: litefs.yml, and command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from litefs.cli.table import UnknownCommand, load_command
from litefs.config.merged import merged_schema
from litefs.plugins import load

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^(?: {4}.*\n)+", re.MULTILINE)
INLINE = re.compile(r"`litefs\s+([^`]*)`")
PROGRAM = re.compile(r"^(?:\$ )?(?:sudo )?(?:[A-Z_]+=\S+ )*(?:[^\s=]*/)?litefs (.*)$")


def configurations(page: Path) -> Iterator[dict[str, Any]]:
    """Blocks that are (parts of) a litefs.yml: those with a key of it at the top."""
    sections = set(merged_schema(load())["properties"])
    for language, text in FENCED.findall(page.read_text()):
        if language in ("yaml", "yml"):
            for content in yaml.safe_load_all(text):
                if isinstance(content, dict) and sections & set(content):
                    yield content


def commands(text: str) -> Iterator[str]:
    """What follows ``litefs`` in shell blocks and in the running text."""
    blocks = [body for language, body in FENCED.findall(text) if language in ("sh", "bash", "console", "")]
    rest = FENCED.sub("", text)
    blocks += INDENTED.findall(rest)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            if found := PROGRAM.match(line.strip()):
                yield found[1]
    yield from (" ".join(found.split()) for found in INLINE.findall(re.sub(r"^ {4}.*$", "", rest, flags=re.MULTILINE)))


def complaint(line: str) -> str:
    """What is wrong with a command line of the documentation; empty where nothing is."""
    words = re.sub(r"[\[\]]|\.\.\.", " ", re.sub(r"\s#.*", "", line))
    rest = shlex.split(re.split(r"[|;&><]| -- ", words)[0], posix=True)
    if not rest or not re.fullmatch(r"[a-z][a-z-]*", rest[0]) or rest[0] == "help":
        return ""  # a word that stands for others, as in: litefs COMMAND -h
    try:
        command: click.Command = load_command(rest.pop(0))
    except UnknownCommand as error:
        return str(error)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-") and rest[0].islower():
        if rest[0] not in command.commands:
            return f"{line}: no such sub-command"
        command = command.commands[rest.pop(0)]
    if isinstance(command, click.Group):
        return ""
    known = {name.lstrip("-") for option in command.params for name in option.opts} | {"h", "help"}
    unknown = [word for word in rest if re.match(r"-{1,2}[a-z]", word) and word.lstrip("-").split("=")[0] not in known]
    return f"{line}: no such flag: {', '.join(unknown)}" if unknown else ""
