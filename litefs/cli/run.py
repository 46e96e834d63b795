"""``litefs run``."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack

import click
import trio

from litefs.cli.access import Access, node_flags
from litefs.cli.api import NodeAPI
from litefs.cli.flags import flag, go_command, passed_through, switch
from litefs.cli.halting import halt_lock
from litefs.cli.leadership import become_primary
from litefs.errors import LitefsError
from litefs.lifecycle import Lifecycle
from litefs.logging import configure
from litefs.supervisor import Command, Supervisor, describe, signals

log = logging.getLogger(__name__)


@go_command("run", passthrough=True, interspersed=False)
@switch("if-candidate", help="Do nothing, successfully, on a node that may not become primary.")
@switch("promote", help="Make the node primary first.")
@flag("with-halt-lock-on", default="", metavar="PATH", help="Hold the halt lock of this database while running.")
@node_flags
@switch("v", help="Say what is done.")
@click.argument("command", nargs=-1)
@click.pass_context
def command(
    ctx: click.Context,
    if_candidate: bool,
    promote: bool,
    with_halt_lock_on: str,
    access: Access,
    v: bool,
    command: tuple[str, ...],
) -> int:
    """Run a command on a node: litefs run [FLAGS] -- COMMAND...

    Exits with the command's code, or 128 and the number of the signal that ended it. With -with-halt-lock-on any
    failure of the command is exit code 1, as in LiteFS.
    """
    argv = passed_through(ctx) or command
    if not argv:
        raise click.UsageError("no command; put it after --", ctx)
    if promote and with_halt_lock_on:
        raise LitefsError("cannot specify both -promote and -with-halt-lock-on", "the primary needs no halt lock")
    configure(debug=v)
    if not v:
        logging.getLogger("litefs").setLevel(logging.WARNING)
    if if_candidate or promote:
        with NodeAPI(access) as node:
            if if_candidate and not node.info()["candidate"]:
                print("node is not a candidate, skipping execution", file=sys.stderr)
                return 0
            if promote:
                log.info("the node is now primary" if become_primary(node) else "the node is already primary")
    with ExitStack() as stack:
        if with_halt_lock_on:
            log.info("acquiring the halt lock of %s", with_halt_lock_on)
            stack.enter_context(halt_lock(with_halt_lock_on))
        return trio.run(_supervise, Command(argv), bool(with_halt_lock_on))


async def _supervise(command: Command, as_litefs: bool) -> int:
    """Run the command with our stdin, handing on signals; its exit code, or 128 and the signal that ended us.

    Args:
        as_litefs: any failure of the command is 1.

    Raises:
        ExecError: it could not be started.
    """
    life, supervisor = Lifecycle(), Supervisor([command])
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        supervisor.stop = signals.received(number)
        supervisor.hurry() if life.stopped else life.stop()

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        await signals.watch(stop, supervisor.pass_on, task_status)

    async def body() -> None:
        async with life.part("signals", watch):
            await supervisor.run(lambda: None)

    await life.run(body)
    if received:
        return 128 + received[0]
    if supervisor.returncode:
        print(f"ERROR: {describe(supervisor.returncode)}", file=sys.stderr)
    return _exit_code(supervisor.returncode or 0, as_litefs=as_litefs)


def _exit_code(returncode: int, *, as_litefs: bool) -> int:
    if returncode and as_litefs:
        return 1
    return returncode if returncode >= 0 else 128 - returncode
