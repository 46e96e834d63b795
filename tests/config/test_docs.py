"""Examples of configurations in the documentation mean what the text around them says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from litefs.config import loads
from litefs.plugins import load

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def examples(page: Path = PAGE) -> Iterator[str]:
    for block in page.read_text().split("```yaml\n")[1:]:
        yield block[: block.index("```")]


def test_the_example_is_a_configuration() -> None:
    example = next(examples())
    assert loads(example, plugins=load(), environment={"HOSTNAME": "node1"}).lease.candidate is True
