"""Plugins that the project knows of, so that an error can name the distribution to install.

Knowing a plugin gives it no more than that; entries for third parties are welcome.
"""

from __future__ import annotations

from typing import NamedTuple


class Known(NamedTuple):
    """A published plugin.

    Args:
        section: ``lease``, ``backup`` or ``proxy``.
        type: the word in ``SECTION.type``.
        distribution: what to install.
        variable: environment variable that selects it where the type is empty, or empty.
        needs: what else the variable needs to do so.
    """

    section: str
    type: str
    distribution: str
    variable: str = ""
    needs: str = ""

    @property
    def installation(self) -> str:
        """The command that installs it."""
        return f"pip install {self.distribution}"


KNOWN: tuple[Known, ...] = (
    Known("lease", "consul", "litefs-lease-consul"),
    Known("lease", "static", "litefs-lease-static"),
    Known("backup", "s3", "litefs-backup-s3"),
    Known("backup", "folder", "litefs-backup-store"),
    Known("backup", "file", "litefs-backup-cloud"),
    Known(
        "backup",
        "litefs-cloud",
        "litefs-backup-cloud",
        "LITEFS_CLOUD_TOKEN",
        "LiteFS Cloud itself was shut down in 2024; name another server in LITEFS_CLOUD_ENDPOINT or backup.url",
    ),
    Known("proxy", "fly", "litefs-proxy-fly"),
)


def known_types(section: str) -> tuple[str, ...]:
    """The types of a section that some published plugin brings."""
    return tuple(known.type for known in KNOWN if known.section == section)


def distribution(section: str, name: str) -> str:
    """The distribution that brings a type; for an unknown one the name it has by convention."""
    found = (known.distribution for known in KNOWN if (known.section, known.type) == (section, name))
    return next(found, f"litefs-{section}-{name}")
