"""``litefs config`` and ``litefs plugins``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from litefs import cli

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A correct litefs.yml in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "litefs.yml"
    path.write_text("lease:\n  type: static\n  hostname: ${NAME}\nhttp: {auth-token: hunter2}\n")
    monkeypatch.setenv("NAME", "zed")
    return path


@pytest.mark.parametrize("arguments", [[], ["-config", "litefs.yml"], ["--config=litefs.yml"]])
def test_check(file: Path, capsys: Capture, arguments: list[str]) -> None:
    assert cli.main(["config", "check", *arguments]) == 0
    assert capsys.readouterr().out.endswith("litefs.yml: ok\n")


def test_check_tells_what_is_wrong(file: Path, capsys: Capture) -> None:
    file.write_text("lease:\n  type: static\n  hostnam: x\n")
    assert cli.main(["config", "check"]) == 2
    assert capsys.readouterr().err == f'ERROR: {file}:3: lease.hostnam: unknown key; did you mean "hostname"?\n'


def test_check_asks_the_plugins(file: Path, capsys: Capture) -> None:
    file.write_text("lease: {type: static, candidate: false}\n")
    assert cli.main(["config", "check"]) == 2
    assert "lease.advertise-url is required" in capsys.readouterr().err


def test_check_splits_commands(file: Path, capsys: Capture) -> None:
    file.write_text("lease: {type: static}\nexec: a && b\n")
    assert cli.main(["config", "check"]) == 2
    assert "a && b" in capsys.readouterr().err


def test_check_warns_of_programs_that_are_not_here(file: Path, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "here").touch(0o755)
    file.write_text(
        "lease: {type: static}\n"
        f"exec: [{{cmd: no-such-program x}}, {{cmd: ./here, cwd: {tmp_path}}}, {{cmd: ./gone, cwd: {tmp_path}}}]\n"
    )
    assert cli.main(["config", "check"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        'WARNING: exec: there is no program "no-such-program" on this machine',
        f'WARNING: exec: there is no program "{tmp_path}/./gone" on this machine',
    ]


def test_check_warns(file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litefs.plugins.Plugins.backups", {})
    monkeypatch.setenv("LITEFS_CLOUD_TOKEN", "hunter2")
    assert cli.main(["config", "check"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("WARNING: LITEFS_CLOUD_TOKEN is set")
    assert "hunter2" not in err


def test_show_masks_secrets_and_fills_in_defaults(file: Path, capsys: Capture) -> None:
    assert cli.main(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    shown = yaml.safe_load(out)
    assert shown["lease"]["hostname"] == "zed"
    assert shown["data"]["retention"] == "10m"
    assert cli.main(["config", "show", "-show-secrets", "-no-expand-env"]) == 0
    out = capsys.readouterr().out
    assert "hunter2" in out
    assert yaml.safe_load(out)["lease"]["hostname"] == "${NAME}"


def test_show_masks_the_environment_of_commands(file: Path, capsys: Capture) -> None:
    file.write_text("lease: {type: static}\nexec: [{cmd: a, env: {SECRET: hunter2}}]\n")
    assert cli.main(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert "SECRET" in out
    assert "hunter2" not in out


def test_what_show_prints_is_a_configuration(file: Path, capsys: Capture, tmp_path: Path) -> None:
    cli.main(["config", "show", "-show-secrets"])
    again = tmp_path / "again.yml"
    again.write_text(capsys.readouterr().out)
    assert cli.main(["config", "check", "-config", str(again)]) == 0


def test_schema(file: Path, capsys: Capture) -> None:
    assert cli.main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert "static" in schema["properties"]["lease"]["properties"]["type"]["enum"]


def test_group(capsys: Capture) -> None:
    assert cli.main(["config"]) == 2
    assert "check" in capsys.readouterr().err
    assert cli.main(["config", "chek"]) == 2
    assert cli.main(["config", "-h"]) == 0


def test_plugins(capsys: Capture) -> None:
    assert cli.main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["PLUGIN", "VERSION", "DISTRIBUTION", "BRINGS"]
    (static,) = [line for line in lines if line.startswith("lease_static")]
    assert static.split()[2:] == ["litefs-lease-static", "lease:", "static"]
    assert "if-candidate, if-primary, if-replica, once-on-primary" in lines[1]
