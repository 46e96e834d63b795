"""``litefs cluster``: which cluster this node belongs to, for nodes that are refused because it is another.

Works on the data directory of a node that is not running.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import click

from litefs.cli.datadir import data_directory, directory_flags
from litefs.cli.flags import go_command, switch
from litefs.datalock import locked
from litefs.errors import LitefsError
from litefs.store import clusterid


@click.group("cluster", context_settings={"help_option_names": ["-h", "-help", "--help"]})
def command() -> None:
    """Forget or set the id of the cluster that this node belongs to.

    A node whose id differs from that of the lease is refused: 'cannot connect, "consul" lease already initialized with
    different ID'. Its databases are of another history, unless somebody has mixed up directories or leases.
    """


@go_command("show")
@directory_flags
def show(config: str, data_dir: str) -> None:
    """Print the id of the cluster that this node belongs to."""
    click.echo(clusterid.read(data_directory(config, data_dir)) or "none")


@go_command("reset")
@directory_flags
@switch("yes", help="do not ask")
def reset(config: str, data_dir: str, yes: bool) -> None:
    """Forget the cluster's id, so that this node can join another cluster as a replica. Databases are kept."""
    path = data_directory(config, data_dir)
    with locked(path):
        old = clusterid.read(path)
        if not old:
            click.echo(f"{path} belongs to no cluster: nothing to forget")
            return
        _say(
            f"{path} belongs to cluster {old} and holds {_databases(path)}. They stay as they are until the "
            "node joins a cluster, as a replica: then each is replaced by that cluster's database of the same name, "
            "and what the cluster has not is kept as a branch (litefs branches list). Where no cluster has been "
            "founded on its lease yet, the node may found one with them.",
            f"To undo: litefs cluster adopt {old}",
        )
        _confirm(yes)
        clusterid.forget(path)
    click.echo("the node belongs to no cluster now")


@go_command("adopt")
@directory_flags
@switch("yes", help="do not ask")
@click.argument("cluster_id", metavar="ID")
def adopt(config: str, data_dir: str, yes: bool, cluster_id: str) -> None:
    """Make this node a member of cluster ID with the databases it has."""
    clusterid.check(cluster_id)
    path = data_directory(config, data_dir)
    with locked(path):
        old = clusterid.read(path)
        if old == cluster_id:
            click.echo(f"{path} belongs to {cluster_id} already")
            return
        _say(
            f"{path} belongs to {f'cluster {old}' if old else 'no cluster'} and holds {_databases(path)}. It "
            f"will count as a member of {cluster_id} and may become its primary: then its databases, whatever is in "
            "them, replace those of the other nodes, which keep theirs as branches. Go on only if they are of that "
            "cluster.",
            f"To undo: litefs cluster {f'adopt {old}' if old else 'reset'}",
        )
        _confirm(yes)
        clusterid.write(path, cluster_id)
    click.echo(f"the node belongs to {cluster_id} now")


def _say(*paragraphs: str) -> None:
    for paragraph in paragraphs:
        click.echo(textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False))


def _databases(path: Path) -> str:
    directory = path / "dbs"
    count = sum(entry.is_dir() for entry in directory.iterdir()) if directory.is_dir() else 0
    return f"{count} database{'' if count == 1 else 's'}"


def _confirm(yes: bool) -> None:
    """Go on, or raise."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise LitefsError("nobody can be asked here", "add -yes to go on")
    click.confirm("Go on?", abort=True)


for _subcommand in (show, reset, adopt):
    command.add_command(_subcommand)
