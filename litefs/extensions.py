"""What plugins hand to the kernel, apart from leases (`litefs.leases`): plain frozen records.

Hooks are synchronous and return lists of these; behaviour lives in the objects that their factories make.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A sub-command of ``litefs``.

    Args:
        name: the word after ``litefs``.
        target: ``module:attribute`` of a ``click.Command``; imported when the command is used.
        summary: one line for the usage text, without a full stop.
    """

    name: str
    target: str
    summary: str
