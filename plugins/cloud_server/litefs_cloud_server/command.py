"""``litefs cloud``: the server, and the tokens that nodes show to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from litefs.cli.flags import flag, go_command, switch
from litefs.cli.rows import table
from litefs.errors import ConfigError

if TYPE_CHECKING:
    from litefs_backup_store.objects import Objects

    from litefs_cloud_server.tokens import Token

DEFAULT_DIR = "/var/lib/litefs-cloud"
DEFAULT_ADDR = "localhost:20300"
DIR_VARIABLE = "LITEFS_CLOUD_DIR"

_GROUP: dict[str, Any] = {"context_settings": {"help_option_names": ["-h", "-help", "--help"]}}


@click.group("cloud", **_GROUP)
def command() -> None:
    """Keep the backups of clusters, with LiteFS Cloud's API."""


@click.group("token", **_GROUP)
def token() -> None:
    """Create, list or revoke the tokens of clusters."""


@click.group("auth", **_GROUP)
def auth() -> None:
    """A token, as LiteFS's guide asks for it."""


def _where(function: Callable[..., Any]) -> Callable[..., Any]:
    text = f"folder, or s3://BUCKET/PREFIX, where everything is kept; default: {DIR_VARIABLE}, else {DEFAULT_DIR}"
    return flag("dir", default="", metavar="DIR", help=text)(function)


def place(where: str, *below: str) -> Objects:
    """Where the server, or with further words a part of it, keeps things. Raises ConfigError.

    What clusters have is encrypted if the environment has a key; tokens are not, of which only hashes are kept.
    """
    from litefs_backup_store.keys import find_keys
    from litefs_backup_store.sealed import SealedObjects

    root = where or os.environ.get(DIR_VARIABLE, "") or DEFAULT_DIR
    objects = _open(root, *below)
    return SealedObjects(objects, find_keys({}, os.environ)) if below else objects


def _open(root: str, *below: str) -> Objects:
    if "://" in root:
        try:
            from litefs_backup_s3.objects import S3Objects
        except ImportError:
            raise ConfigError(f"{root} needs a plugin that is not installed", "pip install litefs-backup-s3") from None
        section = {"endpoint": os.environ.get("AWS_ENDPOINT_URL", "")}
        return S3Objects("/".join((root.rstrip("/"), *below)), section)
    from litefs_backup_store.folder import FolderObjects

    return FolderObjects(os.path.join(root, *below))


@go_command("serve")
@_where
@flag("addr", default=DEFAULT_ADDR, metavar="HOST:PORT", help=f"where to listen; default {DEFAULT_ADDR}")
@flag("tls-cert", default="", metavar="PATH", help="PEM file with the certificate; turns TLS on")
@flag("tls-key", default="", metavar="PATH", help="PEM file with its key")
def serve(dir: str, addr: str, tls_cert: str, tls_key: str) -> None:
    """Serve until a signal comes."""
    from litefs_cloud_server.running import run

    run(lambda *below: place(dir, *below), addr, tls_cert, tls_key)


@go_command("create")
@_where
@flag("cluster", default="", metavar="NAME", help="cluster that the token is for; new names are new clusters")
@switch("all", help="for every cluster, instead of -cluster; it may create and delete them")
@switch("read-only", help="the token may look and download, and change nothing")
def create(dir: str, cluster: str, all: bool, read_only: bool) -> None:
    """Print a new token. It is not kept, only its hash: it cannot be shown again."""
    from litefs_cloud_server.tokens import EVERY

    if all == bool(cluster):
        raise click.UsageError("give either -cluster NAME or -all")
    _create(dir, EVERY if all else cluster, read_only=read_only)


@go_command("token")
@_where
@flag("cluster", default="litefs", metavar="NAME", help='cluster that the token is for; default "litefs"')
def auth_token(dir: str, cluster: str) -> None:
    """Print a new token for a cluster: secrets set LITEFS_CLOUD_TOKEN=$(litefs cloud auth token)."""
    _create(dir, cluster, read_only=False)


def _create(where: str, cluster: str, *, read_only: bool) -> None:
    from litefs_cloud_server.tokens import Tokens

    click.echo(Tokens(place(where)).create(cluster, read_only=read_only))


@go_command("list")
@_where
def list_(dir: str) -> None:
    """Print the tokens there are, without their secrets."""
    from litefs_cloud_server.tokens import Tokens

    rows = [(found.id, found.cluster, _rights(found), _stamp(found.created)) for found in Tokens(place(dir)).all()]
    click.echo("\n".join(table([("ID", "CLUSTER", "MAY", "CREATED"), *rows])) if rows else "no tokens")


@go_command("revoke")
@_where
@click.argument("id")
def revoke(dir: str, id: str) -> None:
    """Make the token ID useless, at once."""
    from litefs_cloud_server.tokens import Tokens

    found = Tokens(place(dir)).revoke(id)
    click.echo(f"token {found.id} of cluster {found.cluster} is revoked")


def _rights(token: Token) -> str:
    if token.read_only:
        return "read"
    return "read, write, manage" if token.cluster == "*" else "read, write"


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


for _each in (create, list_, revoke):
    token.add_command(_each)
auth.add_command(auth_token)
for _part in (serve, token, auth):
    command.add_command(_part)
