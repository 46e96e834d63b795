"""Go-style flags on click: one dash or two, ``-name value`` or ``-name=value``, ``-switch`` or ``-switch=false``.

    @go_command("import")
    @flag("name", help="name of the database")
    @flag("url", default="http://localhost:20202")
    @click.argument("path")
    def command(name: str, url: str, path: str) -> None: ...

With ``passthrough=True`` everything after ``--`` is kept word for word; `passed_through` returns it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}
_HELP = ("-h", "-help", "--help")
_PASSED = "litefs.passed_through"


class GoCommand(click.Command):
    """A click command that reads its arguments the way Go's flag package does.

    Args:
        passthrough: keep what follows ``--`` for `passed_through` instead of parsing it.
        interspersed: also accept flags after positional arguments (Go does not).
    """

    def __init__(self, *args: Any, passthrough: bool = False, interspersed: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": list(_HELP)})
        super().__init__(*args, **kwargs)
        self.passthrough = passthrough
        self.interspersed = interspersed

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, from arguments as Go's flag package takes them."""
        if self.passthrough and "--" in args:
            dashes = args.index("--")
            ctx.meta[_PASSED] = tuple(args[dashes + 1 :])
            args = args[:dashes]
        return super().parse_args(ctx, self._canonical(ctx, args))

    def _canonical(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """The same arguments in the one spelling that click cannot misread: ``--name=value``, positionals last."""
        flags: list[str] = []
        positional: list[str] = []
        rest = list(args)
        while rest:
            word = rest.pop(0)
            if word == "--":
                positional += rest
                break
            if word == "-" or not word.startswith("-"):
                positional.append(word)
                if not self.interspersed:
                    positional += rest
                    break
            elif word in _HELP:
                flags.append("--help")
            else:
                flags += self._flag(ctx, word, rest)
        return [*flags, "--", *positional]

    def _flag(self, ctx: click.Context, word: str, rest: list[str]) -> list[str]:
        name, equals, value = word.lstrip("-").partition("=")
        option = self._options().get(name) or self._no_such_flag(ctx, word)
        if not option.is_flag:
            if not equals:
                if not rest:
                    raise click.UsageError(f"flag needs an argument: -{name}", ctx)
                value = rest.pop(0)
            return [f"--{name}={value}"]
        if value in _FALSE:
            return []
        if equals and value not in _TRUE:
            raise click.UsageError(f'invalid boolean value "{value}" for -{name}', ctx)
        return [f"--{name}"]

    def _options(self) -> dict[str, click.Option]:
        return {
            spelling.lstrip("-"): parameter
            for parameter in self.params
            if isinstance(parameter, click.Option)
            for spelling in parameter.opts
        }

    def _no_such_flag(self, ctx: click.Context, word: str) -> NoReturn:
        name = word.lstrip("-").partition("=")[0]
        close = difflib.get_close_matches(name, self._options(), 1)
        hint = f"; did you mean -{close[0]}?" if close else ""
        raise click.UsageError(f"no such flag: -{name}{hint}", ctx)


def go_command(
    name: str, *, passthrough: bool = False, interspersed: bool = True, **attributes: Any
) -> Callable[[Callable[..., Any]], GoCommand]:
    """Decorator that makes a `GoCommand` of a function, as ``click.command`` would."""
    return click.command(name, cls=GoCommand, passthrough=passthrough, interspersed=interspersed, **attributes)


def flag(name: str, **attributes: Any) -> Callable[[F], F]:
    """A flag that takes a value; the parameter is ``name`` with dashes and dots as underscores."""
    return click.option(f"--{name}", _identifier(name), **attributes)


def switch(name: str, **attributes: Any) -> Callable[[F], F]:
    """A flag without a value, false unless given; ``-name=false`` is understood."""
    return click.option(f"--{name}", _identifier(name), is_flag=True, **attributes)


def passed_through(ctx: click.Context) -> tuple[str, ...] | None:
    """What followed ``--`` on the command line; None where there was no ``--``."""
    words: tuple[str, ...] | None = ctx.meta.get(_PASSED)
    return words


def _identifier(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")
