"""From an exception to what the user sees: ``ERROR: message`` on stderr and an exit code.

The one place where exception groups, which trio's nurseries wrap everything in, are unwrapped.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator

from litefs.errors import LitefsError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def report(error: BaseException) -> int:
    """Print what went wrong and return the exit code.

    Errors of users and of the system are shown without a traceback; anything else is a bug in litefs or in a plugin
    and is shown with one, as everything is where ``LITEFS_TRACEBACK`` is set.
    """
    leaves = list(_leaves(error))
    if os.environ.get("LITEFS_TRACEBACK"):
        traceback.print_exception(error)
    bugs = [leaf for leaf in leaves if _is_bug(leaf)]
    if bugs:
        traceback.print_exception(error)
        _say(f"unexpected {type(bugs[0]).__name__}: {bugs[0]}")
        return 1
    codes = [_show(leaf) for leaf in leaves]
    # An interruption or an explicit exit code outranks the failures that came along with it.
    return next((code for code, leaf in zip(codes, leaves, strict=True) if not isinstance(leaf, Exception)), max(codes))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _is_bug(error: BaseException) -> bool:
    import click

    known = (LitefsError, OSError, click.ClickException, click.exceptions.Exit, click.Abort, KeyboardInterrupt)
    return not isinstance(error, (*known, SystemExit))


def _show(error: BaseException) -> int:
    import click

    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return _system_exit(error)
    if isinstance(error, BrokenPipeError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  or the interpreter complains about its flush at exit
        return 1
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and error.ctx is not None:
        print(error.ctx.get_help(), file=sys.stderr)
        return error.exit_code
    if isinstance(error, click.UsageError) and error.ctx is not None:
        print(error.ctx.get_usage(), file=sys.stderr)
    _say(error.format_message() if isinstance(error, click.ClickException) else str(error))
    code: int = getattr(error, "exit_code", 1)
    return code


def _system_exit(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    _say(str(error.code))
    return 1


def _say(message: str) -> None:
    print(f"ERROR: {message}", file=sys.stderr)
