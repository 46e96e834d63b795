"""What is wrong with a litefs.yml: where, what, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from litefs.errors import ConfigError

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault.

    Args:
        key: where in the document, from the outermost key inwards; numbers are places in lists.
        message: what is wrong, without the place.
        hint: the fix, or empty.
        line: where it is, if that is not where the key is first found.
        exit_code: of a command that this stops; 1 for what LiteFS finds out only when it starts the part concerned.
    """

    key: KeyPath
    message: str
    hint: str = ""
    line: int | None = None
    exit_code: int = ConfigError.exit_code

    def __str__(self) -> str:
        text = f"{dotted(self.key)}: {self.message}" if self.key else self.message
        return f"{text}; {self.hint}" if self.hint else text


class InvalidConfig(ConfigError):
    """litefs.yml has faults; ``problems`` lists them in the order of their lines."""

    def __init__(self, path: str, located: Iterable[tuple[int, Problem]]) -> None:
        ordered = sorted(located, key=lambda pair: pair[0])
        self.problems = tuple(problem for _, problem in ordered)
        self.exit_code = max((problem.exit_code for problem in self.problems), default=ConfigError.exit_code)
        self.lines = tuple(f"{path}:{line}: {problem}" for line, problem in ordered)
        super().__init__(
            self.lines[0] if len(self.lines) == 1 else "\n  ".join([f"{len(self.lines)} errors", *self.lines])
        )


def dotted(key: KeyPath) -> str:
    """``exec[1].cmd`` for ("exec", 1, "cmd")."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key).removeprefix(".")
