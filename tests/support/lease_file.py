"""The lease plugin of the examples, as good as installed."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def installed(directory: Path) -> Path:
    """A folder for PYTHONPATH, with what pip would have written; made in `directory`."""
    folder = directory / "installed"
    info = folder / "litefs_lease_file-0.1.0.dist-info"
    if not info.exists():
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: litefs-lease-file\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text("[litefs]\nlease_file = litefs_lease_file\n")
        (folder / "litefs_lease_file").symlink_to(ROOT / "examples/lease_file/litefs_lease_file")
    return folder
