"""A stranger's lease plugin: built as a wheel, installed beside the kernel's wheel, named in litefs.yml."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugins.conftest import ROOT, Environment

EXAMPLE = "examples/lease_file"


@pytest.fixture(scope="module")
def installed(environment: Environment, wheel: Callable[[str], Path]) -> Environment:
    """An environment with kernel, static lease and the example."""
    environment.install(wheel("."), wheel("plugins/lease_static"), wheel(EXAMPLE), "pytest")
    return environment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a litefs.yml that names the example."""
    (tmp_path / "litefs.yml").write_text(f"lease:\n  type: file\n  file:\n    path: {tmp_path}/lease\n")
    return tmp_path


def test_it_is_listed(installed: Environment, folder: Path) -> None:
    done = installed.run("litefs", "plugins", cwd=folder)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("lease_file")]
    assert line.split()[2] == "litefs-lease-file"
    assert line.endswith("lease: file; command: lease-file; metrics")


def test_a_configuration_may_name_it(installed: Environment, folder: Path) -> None:
    done = installed.run("litefs", "config", "check", cwd=folder)
    assert (done.returncode, done.stdout) == (0, f"{folder}/litefs.yml: ok\n")
    schema = json.loads(installed.run("litefs", "config", "schema", cwd=folder).stdout)
    assert schema["properties"]["lease"]["properties"]["file"]["properties"]["ttl"]["default"] == "10s"


def test_its_schema_is_used(installed: Environment, folder: Path) -> None:
    file = folder / "litefs.yml"
    file.write_text(file.read_text() + "    tll: 5s\n")
    done = installed.run("litefs", "config", "check", cwd=folder)
    assert done.returncode == 2
    assert done.stderr == f'ERROR: {file}:5: lease.file.tll: unknown key; did you mean "ttl"?\n'


def test_it_brings_a_command(installed: Environment, folder: Path) -> None:
    assert "lease-file" in installed.run("litefs", cwd=folder).stdout
    done = installed.run("litefs", "lease-file", folder / "lease", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "nobody\n")


def test_its_own_tests_pass_there(installed: Environment, folder: Path) -> None:
    shutil.copytree(ROOT / EXAMPLE / "tests", folder / "tests")
    done = installed.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=folder)
    assert done.returncode == 0, done.stdout


def test_uninstalled_the_error_names_it(installed: Environment, folder: Path, wheel: Callable[[str], Path]) -> None:
    installed.uninstall("litefs-lease-file")
    try:
        done = installed.run("litefs", "config", "check", cwd=folder)
    finally:
        installed.install(wheel(EXAMPLE))
    assert done.returncode == 2
    assert done.stderr.startswith(f"ERROR: {folder}/litefs.yml:2: lease.type: invalid lease type, must be either")
    assert "got: 'file' (installed: static); is a plugin missing? pip install litefs-lease-file" in done.stderr
