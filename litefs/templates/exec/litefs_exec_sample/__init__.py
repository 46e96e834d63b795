"""The exec policy "sample" for litefs: `sample: [HOST, ...]` beside `cmd` runs a command on the nodes that it names."""

from __future__ import annotations

from collections.abc import Sequence

from litefs.extensions import ExecContext, ExecPolicy
from litefs.hookspecs import hookimpl

# What may be written behind the key.
SCHEMA = {
    "description": "TODO: when the command runs.",
    "type": "array",
    "minItems": 1,
    "items": {"type": "string", "minLength": 1},
}


def admits(value: Sequence[str], context: ExecContext) -> bool | None:
    """Whether the command runs, given the key's value and what the node is now.

    Plain and quick: it is called in the node's event loop, at each change of the role. None is for commands that run to
    completion, and means: the primary runs it, and this node waits for that (then say ``service=False`` below).
    """
    return context.hostname in value


@hookimpl
def litefs_exec_policies() -> Sequence[ExecPolicy]:
    return [
        ExecPolicy(
            key="sample",
            schema=SCHEMA,
            admits=admits,
            reason="another node is named",
            # True: the key makes a command a service; False: one that runs to completion; None: neither.
            service=None,
        )
    ]
