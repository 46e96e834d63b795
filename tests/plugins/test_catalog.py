"""Distributions that errors tell users to install."""

from __future__ import annotations

import tomllib
from pathlib import Path

from litefs.catalog import KNOWN, distribution, known_types

ROOT = Path(__file__).parents[2]


def test_distribution() -> None:
    assert distribution("lease", "consul") == "litefs-lease-consul"
    assert distribution("backup", "litefs-cloud") == "litefs-backup-cloud"
    assert distribution("lease", "own") == "litefs-lease-own"
    assert set(known_types("lease")) == {"consul", "static"}


def test_every_type_of_this_repository_is_known() -> None:
    projects = (tomllib.loads(file.read_text())["project"]["name"] for file in ROOT.glob("plugins/*/pyproject.toml"))
    assert {name for name in projects if name.startswith(("litefs-lease-", "litefs-backup-", "litefs-proxy-"))} <= {
        known.distribution for known in KNOWN
    }
