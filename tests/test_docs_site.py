"""The site that `scripts/docs` makes of the documentation: without a warning, and each page is in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import missing

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-docs.lock"


@pytest.mark.slow
def test_every_page_is_in_the_site(tmp_path: Path) -> None:
    stamp = ROOT / ".venv-docs" / f"{LOCK.name}.done"  # scripts/lib.sh makes it
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        missing(f"what {LOCK.name} names is not installed: run scripts/docs --install")
    done = subprocess.run(
        [ROOT / "scripts" / "docs"],
        env=os.environ | {"DOCS_SITE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md"), *ROOT.glob("examples/*/README.md")]
    assert not [page for page in pages if not (tmp_path / page.relative_to(ROOT)).with_suffix(".html").exists()]
