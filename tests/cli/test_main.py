"""The command line as a whole: dispatch, usage, exit codes."""

from __future__ import annotations

import re
import sys
import types

import click
import pytest

from litefs import cli
from litefs.cli.failures import report
from litefs.errors import ConfigError, LitefsError, PluginError
from litefs.extensions import CommandSpec
from litefs.hookspecs import hookimpl
from litefs.plugins import BUILTIN, Plugin, Plugins


@pytest.mark.parametrize("arguments", [[], ["help"], ["-x"], ["--version"]])
def test_usage_goes_to_stdout_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert "litefs COMMAND" in out
    assert "mount" in out
    assert err == ""


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mont"]) == 1
    assert capsys.readouterr().err == 'ERROR: litefs mont: unknown command: did you mean "mount"?\n'


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("LiteFS v")


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in [["help", "version"], ["version", "-h"], ["version", "--help"]]:
        assert cli.main(arguments) == 0
        assert "Print the version." in capsys.readouterr().out


def test_report_unwraps_nested_groups(capsys: pytest.CaptureFixture[str]) -> None:
    inner = ExceptionGroup("inner", [ConfigError("bad key", "remove it")])
    assert report(ExceptionGroup("outer", [inner, LitefsError("and this")])) == 2
    assert capsys.readouterr().err == "ERROR: bad key: remove it\nERROR: and this\n"


def test_report_shows_a_traceback_for_bugs_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(OSError(98, "Address already in use")) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert report(ExceptionGroup("", [KeyError("k"), LitefsError("x")])) == 1
    err = capsys.readouterr().err
    assert "sub-exceptions" in err
    assert "unexpected KeyError" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SystemExit(7), 7),
        (SystemExit(None), 0),
        (SystemExit("text"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_report_exit_codes(error: BaseException, code: int) -> None:
    assert report(error) == code
    assert report(BaseExceptionGroup("", [error, ConfigError("x")])) == code


class _Greeting:
    @hookimpl
    def litefs_commands(self) -> list[CommandSpec]:
        return [CommandSpec("greet", f"{__name__}:greet", "say hello"), CommandSpec("lost", "no_such:module", "fail")]


@pytest.fixture
def greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that brings a command, and one whose module is missing."""
    monkeypatch.setattr("litefs.plugins.load", lambda: Plugins([BUILTIN, Plugin("greeting", _Greeting())]))
    module = types.ModuleType(__name__)
    module.greet = click.Command("greet", callback=lambda: print("hello"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, __name__, module)


@pytest.mark.usefixtures("greeting")
def test_commands_of_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["greet"]) == 0
    assert capsys.readouterr().out == "hello\n"
    assert re.search(r"^  greet +say hello$", cli.usage(), re.MULTILINE)
    assert cli.main(["lost"]) == 1
    assert 'command "lost" cannot be loaded from no_such:module' in capsys.readouterr().err
    assert cli.main(["gret"]) == 1
    assert 'did you mean "greet"?' in capsys.readouterr().err


def test_a_broken_plugin_leaves_the_usage_and_the_kernels_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Plugins:
        raise PluginError("plugin x is broken")

    monkeypatch.setattr("litefs.plugins.load", broken)
    assert "plugin x is broken" in cli.usage()
    assert cli.main(["version"]) == 0
    assert cli.main(["greet"]) == 1
    assert capsys.readouterr().err == "ERROR: plugin x is broken\n"
