"""What the documentation says about this repository is there: links, keys, and nothing of anyone's own machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from litefs.config.merged import merged_schema
from litefs.config.schema import Schema
from litefs.plugins import BUILTIN, Plugins, load

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [page for pattern in ("*.md", "docs/*.md", "plugins/*/*.md", "examples/**/*.md") for page in ROOT.glob(pattern)]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

# Text that only makes sense where it was written: home directories, addresses of package indexes.
MACHINE = [
    re.compile(r"(?<![\w.$*{}-])/(?:work|root|home/\w+|Users/\w+)/[\w.]"),
    re.compile(r"https?://[\w.:-]+/(?:\w+/)*simple\b|(?:index-url|trusted-host)[= ]+[\w\"']+[.:/]", re.IGNORECASE),
]


def as_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its code blocks, whose brackets are no links."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w -]", "", text.lower()).strip().replace(" ", "-") for text in HEADING.findall(prose(page))}


@pytest.mark.parametrize("page", PAGES, ids=as_id)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert not broken


def test_the_readme_links_every_page() -> None:
    linked = {(ROOT / link).resolve() for link in LINK.findall(prose(ROOT / "README.md"))}
    assert not [as_id(page) for page in ROOT.glob("docs/*.md") if page.resolve() not in linked]


@pytest.mark.parametrize("page", [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"], ids=as_id)
def test_named_parts_of_the_repository_exist(page: Path) -> None:
    named = re.findall(r"`((?:litefs|tests|bench|schema|scripts|plugins|examples)/[\w./-]*)`", page.read_text())
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_room_has_its_line() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "litefs").glob("*/__init__.py")]
    assert not [room for room in rooms if f"`litefs/{room}`" not in text]


def keys(schema: Schema, node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, sub in schema.properties(node).items():
        if schema.types(sub) == {"object"}:  # a plugin's section has no keys here
            yield from keys(schema, sub, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_key_is_documented() -> None:
    """Those of the kernel; plugins document theirs."""
    schema = Schema(merged_schema(Plugins([BUILTIN])))
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert not [key for key in keys(schema, schema.root) if f"`{key}`" not in text]


def test_every_command_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert not [name for name in load().commands if not re.search(rf"litefs {re.escape(name)}\b|`{name}`", text)]


def test_nothing_names_the_machine_it_was_written_on() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path == Path(__file__) or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{name}: {match.group()}" for pattern in MACHINE for match in pattern.finditer(text)]
    assert not found
