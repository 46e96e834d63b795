"""``litefs lease-file PATH``."""

from __future__ import annotations

import click

from litefs.cli.flags import go_command
from litefs_lease_file.store import LeaseFile


@go_command("lease-file")
@click.argument("path")
def command(path: str) -> None:
    """Show who holds the lease in the file PATH."""
    holder = LeaseFile(path).holder()
    click.echo(f"{holder.hostname} {holder.advertise_url}" if holder else "nobody")
