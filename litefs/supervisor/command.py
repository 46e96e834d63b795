"""What is to be run: the entries of ``exec`` in litefs.yml, or the arguments after ``--``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litefs.errors import ConfigError
from litefs.supervisor import words


@dataclass(frozen=True, slots=True)
class Command:
    """One program and its arguments.

    Args:
        argv: the words; the first is looked up on PATH.
        conditions: the entry's keys besides ``cmd`` (``if-candidate``, or what a plugin added), for the exec policies.
    """

    argv: tuple[str, ...]
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return shlex.join(self.argv)


def from_line(line: str, conditions: Mapping[str, Any] | None = None) -> Command:
    """The command that a line of litefs.yml stands for. Raises ConfigError as :func:`words.split` does."""
    argv = words.split(line)
    if not argv:
        raise ConfigError("exec: a command is empty", "give it a cmd, or remove the entry")
    return Command(tuple(argv), conditions or {})


def from_arguments(arguments: Sequence[str]) -> Command:
    """The command after ``--``: the arguments as they are, or the words of a single one that has several.

    Arguments that were quoted twice, as LiteFS needs it, lose the second pair of quotes (:func:`words.unwrap`).
    """
    if len(arguments) == 1:
        return from_line(arguments[0])
    return Command(tuple(words.unwrap(argument) for argument in arguments))
