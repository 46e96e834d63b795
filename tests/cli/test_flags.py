"""Go-style flags."""

from __future__ import annotations

import click
import pytest

from litefs.cli.flags import flag, go_command, passed_through, switch


@go_command("probe", passthrough=True)
@flag("config")
@flag("fuse.name")
@switch("no-expand-env")
@switch("debug")
@click.argument("paths", nargs=-1)
@click.pass_context
def probe(ctx: click.Context, /, **values: object) -> dict[str, object]:
    return {**{k: v for k, v in values.items() if v not in (None, False, ())}, "--": passed_through(ctx)}


def run(*args: str) -> object:
    return probe.main(list(args), standalone_mode=False)


@pytest.mark.parametrize("args", [["-config", "x"], ["--config", "x"], ["-config=x"], ["--config=x"]])
def test_spellings(args: list[str]) -> None:
    assert run(*args) == {"config": "x", "--": None}


def test_names_with_dots_and_dashes() -> None:
    assert run("-fuse.name", "-n-", "-no-expand-env") == {"fuse_name": "-n-", "no_expand_env": True, "--": None}


def test_value_may_look_like_a_flag_or_hold_equals() -> None:
    assert run("-config", "-debug", "-fuse.name=a=b") == {"config": "-debug", "fuse_name": "a=b", "--": None}


@pytest.mark.parametrize(
    ("word", "value"), [("-debug", True), ("-debug=true", True), ("--debug=1", True), ("-debug=f", None)]
)
def test_switch_values(word: str, value: bool | None) -> None:
    assert run(word) == ({"debug": True, "--": None} if value else {"--": None})


def test_passthrough_keeps_every_word() -> None:
    assert run("-debug", "--", "sh", "-c", "exit 5", "--", "-debug") == {
        "debug": True,
        "--": ("sh", "-c", "exit 5", "--", "-debug"),
    }
    assert run("--") == {"--": ()}


def test_flags_after_positionals() -> None:
    assert run("a", "-debug", "b") == {"debug": True, "paths": ("a", "b"), "--": None}


def test_flags_end_at_the_first_positional_where_asked() -> None:
    @go_command("strict", interspersed=False)
    @switch("debug")
    @click.argument("words", nargs=-1)
    def strict(debug: bool, words: tuple[str, ...]) -> object:
        return debug, words

    assert strict.main(["-debug", "a", "-debug", "--", "x"], standalone_mode=False) == (
        True,
        ("a", "-debug", "--", "x"),
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-confg", "x"], "no such flag: -confg; did you mean -config?"),
        (["-zzz"], "no such flag: -zzz"),
        (["-config"], "flag needs an argument: -config"),
        (["-debug=maybe"], 'invalid boolean value "maybe" for -debug'),
    ],
)
def test_errors(args: list[str], message: str) -> None:
    with pytest.raises(click.UsageError) as error:
        run(*args)
    assert error.value.format_message() == message
    assert error.value.exit_code == 2
