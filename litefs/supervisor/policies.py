"""What the exec policies say about a command right now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from litefs.extensions import ExecContext, ExecPolicy
from litefs.plugins import Plugins
from litefs.supervisor.command import Command


class Situation(Protocol):
    """What a node is in its cluster, for its commands."""

    def context(self) -> ExecContext:
        """The present moment."""

    async def wait_change(self) -> None:
        """Wait until `context` has something else to say."""

    async def primary_done(self) -> bool:
        """Wait until the primary has come up and this node has all that it wrote until then.

        False, as soon as the situation has changed meanwhile.
        """


class Alone:
    """The situation of a command that no node surrounds."""

    def context(self) -> ExecContext:
        """It is not the primary, and there is none."""
        return ExecContext("", candidate=False, is_primary=False)

    async def wait_change(self) -> None:
        """Nothing ever changes."""
        await trio.sleep_forever()

    async def primary_done(self) -> bool:
        """There is nobody to wait for."""
        return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all policies of a command say together.

    Args:
        admits: True, it runs; False, it does not; None, the primary runs it and this node waits for that.
        reason: why it does not run.
    """

    admits: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of all plugins, in one situation.

    Args:
        situation: what they are asked about.
        plugins: where they come from; None where there are none, which admits everything.
    """

    situation: Situation = field(default_factory=Alone)
    plugins: Plugins | None = None

    def judge(self, command: Command) -> Verdict:
        """The verdict at this moment: False from any policy counts most, then None.

        Raises:
            PluginError: a policy failed.
        """
        known: Mapping[str, ExecPolicy] = self.plugins.exec_policies if self.plugins else {}
        context = self.situation.context()
        elsewhere: Verdict | None = None
        for key, value in command.conditions.items():
            answer = self._ask(known[key], value, context)
            if answer is None:
                elsewhere = Verdict(None, known[key].reason)
            elif not answer:
                return Verdict(False, known[key].reason)
        return elsewhere or Verdict(True)

    def _ask(self, policy: ExecPolicy, value: object, context: ExecContext) -> bool | None:
        try:
            return policy.admits(value, context)
        except Exception as error:  # whatever somebody's function can raise
            assert self.plugins is not None
            what = f'failed in its exec policy "{policy.key}": {type(error).__name__}: {error}'
            raise self.plugins.owner(policy).fault(what) from error

    async def wait_refusal(self, command: Command) -> str:
        """Wait until the command is not admitted any more; why. Never returns for one without policies."""
        while True:
            verdict = self.judge(command)
            if not verdict.admits:
                return verdict.reason
            if not command.conditions:
                await trio.sleep_forever()
            await self.situation.wait_change()
