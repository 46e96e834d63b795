"""How `scripts/docs` makes a site of the Markdown pages, which read as well without it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

project = "litefs"
html_title = "litefs"
html_theme = "furo"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "plugins/*/README.md", "examples/README.md", "examples/*/README.md"]
# Sphinx walks every folder of the clone: not environments, and not the mount of a demonstration.
exclude_patterns = [".*", "demo", "litefs", "tests", "bench", "docs/_build", "**/node_modules"]
html_extra_path: list[str] = []
templates_path: list[str] = []
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
highlight_language = "none"
suppress_warnings = ["toc.not_included"]  # tests/test_docs.py knows which pages the index must have

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)\)")


def setup(app):
    app.connect("source-read", _prepare)


def _prepare(app, name, source):
    """A folder is its README here, or only its name; the index has the list of pages that the sidebar shows."""
    page = ROOT / f"{name}.md"
    source[0] = _LINK.sub(lambda found: _link(page, *found.groups()), source[0])
    if name == root_doc:
        source[0] += _sidebar(source[0])


def _link(page, text, target):
    folder = page.parent / target
    if not folder.is_dir():
        return f"[{text}]({target})"
    return f"[{text}]({target.rstrip('/')}/README.md)" if (folder / "README.md").exists() else text


def _sidebar(text):
    """A hidden table of contents for each section of the index."""
    parts = []
    for section in text.split("\n## ")[1:]:
        pages = [target.removesuffix(".md") for _, target in _LINK.findall(section) if target.endswith(".md")]
        entries = "\n".join("/" + str((ROOT / "docs" / page).resolve().relative_to(ROOT)) for page in pages)
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {section.splitlines()[0]}\n\n{entries}\n```\n")
    return "".join(parts)
