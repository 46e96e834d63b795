"""What is to be run: the entries of ``exec`` in litefs.yml, or the arguments after ``--``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from litefs.config.model import ExecCommand
from litefs.errors import ConfigError
from litefs.supervisor import words

MAIN = ExecCommand("")
"""The options of a command that no entry of litefs.yml stands for: supervised, and essential."""


@dataclass(frozen=True, slots=True)
class Command:
    """One program and its arguments.

    Args:
        argv: the words; the first is looked up on PATH.
        entry: its options.
    """

    argv: tuple[str, ...]
    entry: ExecCommand = MAIN

    @property
    def conditions(self) -> Mapping[str, Any]:
        """The entry's policy keys and their values."""
        return self.entry.policies

    @property
    def name(self) -> str:
        """What the log and the marks of its output call it."""
        return self.entry.name or PurePath(self.argv[0]).name

    def __str__(self) -> str:
        return shlex.join(self.argv)


def from_line(line: str, entry: ExecCommand = MAIN) -> Command:
    """The command that a line of litefs.yml stands for. Raises ConfigError as :func:`words.split` does."""
    argv = words.split(line)
    if not argv:
        raise ConfigError("exec: a command is empty", "give it a cmd, or remove the entry")
    return Command(tuple(argv), entry)


def from_entry(entry: ExecCommand) -> Command:
    """The command of an entry of ``exec``. Raises ConfigError as :func:`words.split` does."""
    return from_line(entry.cmd, entry)


def from_arguments(arguments: Sequence[str]) -> Command:
    """The command after ``--``: the arguments as they are, or the words of a single one that has several.

    Arguments that were quoted twice, as LiteFS needs it, lose the second pair of quotes (:func:`words.unwrap`).
    """
    if len(arguments) == 1:
        return from_line(arguments[0])
    return Command(tuple(words.unwrap(argument) for argument in arguments))
