"""Runs the commands of ``exec``: the tasks to completion, then the services for as long as the node lives."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio

from litefs.config.commands import Kind
from litefs.lifecycle import unwrap
from litefs.supervisor import child as children
from litefs.supervisor import signals
from litefs.supervisor.child import Child
from litefs.supervisor.command import Command
from litefs.supervisor.output import marks
from litefs.supervisor.policies import Policies
from litefs.supervisor.runner import Runner
from litefs.supervisor.signals import Stop

log = logging.getLogger(__name__)

GROUP_SIGNAL = 0.2
"""Seconds in which a signal that a command died of may turn out to be meant for us as well.

Ctrl-C goes to all processes of the terminal, and the command may be gone before we hear of it: still a clean stop.
"""


class Supervisor:
    """One node's commands.

    Both coroutines end the running commands when they are cancelled, by the signal that :attr:`stop` holds at that
    time, and wait for their end, shielded.

    A service that is alone and that no key made one lives as it would without us: in our process group, with our
    standard input and output. Others have process groups of their own, so that nothing of them stays behind when they
    are stopped, and several services have their output marked.

    Args:
        commands: in the order of litefs.yml.
        policies: which of them run when.
        say: told what is being waited for, when that is the end of a command.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        policies: Policies | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._policies = policies or Policies()
        self._say = say
        tasks = [command for command in commands if command.entry.kind is Kind.TASK]
        services = [command for command in commands if command.entry.kind is not Kind.TASK]
        self._tasks = [Runner(command, self._policies, self._ask) for command in tasks]
        self._services = self._serving(services)
        self._asked = False
        self.stop = Stop()
        """The request that ends the node, as far as commands have not heard of it."""
        self.exit_code: int | None = None
        """The exit code that the services give the daemon, once they have ended; None when there were none."""
        self.returncode: int | None = None
        """How the service that ended the node did so: its exit code, or minus the number of the signal it died of."""

    def _serving(self, commands: Sequence[Command]) -> list[Runner]:
        if [command.entry.kind for command in commands] == [Kind.MAIN]:
            return [Runner(commands[0], self._policies, self._ask, stdin=None)]
        labels = marks([command.name for command in commands]) if len(commands) > 1 else [""] * len(commands)
        return [
            Runner(command, self._policies, self._ask, mark=mark, apart=True)
            for command, mark in zip(commands, labels, strict=True)
        ]

    def _ask(self) -> Stop:
        """How a command is to be ended, now that one has to be."""
        if not self._asked:
            self._asked = True
            self._say("sending signal to exec process")
            self._say("waiting for exec process to close")
        return self.stop

    @property
    def running(self) -> list[Child]:
        """The commands that run now."""
        return [runner.child for runner in (*self._tasks, *self._services) if runner.child is not None]

    async def prepare(self, tell: Callable[[str], None] = lambda text: None) -> bool:
        """Run the tasks, one after the other; whether any has run here.

        Args:
            tell: told what is going on.

        Raises:
            ExecError: one could not be started, or failed.
            PluginError: an exec policy failed.
        """
        try:
            for task in self._tasks:
                await task.complete(tell)
        except ExceptionGroup as group:
            raise unwrap(group) from None
        return any(task.returncode is not None for task in self._tasks)

    async def run(self, up: Callable[[], None]) -> int | None:
        """Start the services, call ``up()``, wait for the end of an essential one; the daemon's exit code.

        ``up()`` is called when each has been started, or is waiting for its policies. None, right after it, when
        there are no services.

        Raises:
            ExecError: an essential one could not be started; at first, ``up()`` was not called then.
            PluginError: an exec policy failed.
        """
        if not self._services:
            up()
            return None
        failed = False
        try:
            async with trio.open_nursery() as nursery:
                for service in self._services:
                    await nursery.start(self._serve, service, nursery.cancel_scope)
                up()
        except ExceptionGroup as group:
            failed = True
            raise unwrap(group) from None
        finally:
            self.exit_code = None if failed else self._code()
        return self.exit_code

    async def _serve(self, service: Runner, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
        returncode = await service.serve(task_status=task_status)
        if -returncode in signals.STOPPING:
            await trio.sleep(GROUP_SIGNAL)
        if self.returncode is None:
            self.returncode = returncode
        scope.cancel()

    def _code(self) -> int | None:
        if self.returncode is not None:
            return children.exit_code(self.returncode)
        if all(service.returncode is None for service in self._services):
            return None
        # They ended because they were told to: dying of that signal is what was asked for. Their own codes are passed
        # on.
        codes = [service.returncode or 0 for service in self._services if service.command.entry.essential]
        return next((code for code in codes if code > 0), 0)

    async def conform(self) -> None:
        """Wait until no command runs that the policies do not admit any more."""
        for runner in (*self._tasks, *self._services):
            await runner.settle()

    def pass_on(self, number: int) -> None:
        """Hand a signal that is not about stopping to the command at work: the task, or the main or only service."""
        main = [service for service in self._services if service.command.entry.kind is Kind.MAIN]
        for runner in (*self._tasks, *(main or self._services[:1])):
            if runner.child is not None:
                runner.child.send(number)

    def hurry(self) -> None:
        """The user asked again: see :meth:`Child.hurry`."""
        for child in self.running:
            child.hurry()


def say(text: str) -> None:
    """Print one of the plain lines LiteFS prints, which are no log lines. A closed stdout is no reason to fail."""
    try:
        print(text, flush=True)
    except OSError:
        log.debug("cannot write to stdout: %s", text)
