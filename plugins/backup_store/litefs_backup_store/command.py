"""``litefs backup``: what is there, whether it is whole, and getting it back."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from litefs.cli.access import Access
from litefs.cli.flags import flag, go_command, switch
from litefs.cli.rows import table
from litefs.errors import ConfigError, LitefsError
from litefs.ltx import Header, format_txid, parse_txid

if TYPE_CHECKING:
    from litefs_backup_store.entries import Entry
    from litefs_backup_store.vault import Vault

LEVELS = {0: "each upload", 1: "10 seconds", 2: "5 minutes", 3: "1 hour", 9: "whole database"}


class Failed(LitefsError):
    """The backup is not what it should be."""


@click.group("backup", context_settings={"help_option_names": ["-h", "-help", "--help"]})
def command() -> None:
    """Look at the backup that litefs.yml names, check it, restore from it."""


def _where(function: Callable[..., Any]) -> Callable[..., Any]:
    return flag("config", default="", metavar="PATH", help="litefs.yml whose backup section names it")(function)


@contextmanager
def _vault(config: str) -> Iterator[Vault]:
    from litefs.config import load
    from litefs_backup_store.opening import open_objects
    from litefs_backup_store.vault import Vault

    objects = open_objects(load(config or None).backup)
    try:
        yield Vault(objects)
    finally:
        objects.close()


# --------------------------------------------------------------------------------------------------------------- list


@go_command("list")
@_where
@flag("db", default="", metavar="NAME", help="show the states of this database that can be restored")
@switch("json", help="print JSON")
def list_(config: str, db: str, json: bool) -> None:
    """Print every database in the backup, or the states of one that can be restored."""
    with _vault(config) as vault:
        if db:
            _list_states(vault, db, as_json=json)
        else:
            _list_databases(vault, as_json=json)


def _list_databases(vault: Vault, *, as_json: bool) -> None:
    heads = sorted((head for head in vault.heads() if head.pos.txid), key=lambda head: head.database)
    if as_json:
        _print_json({
            head.database: {"txid": format_txid(head.pos.txid), "checksum": f"{head.pos.checksum:016x}",
                            "time": _stamp(head.timestamp), "bytes": head.page_size * head.commit}
            for head in heads
        })  # fmt: skip
        return
    rows = [
        (head.database, format_txid(head.pos.txid), _stamp(head.timestamp),
         _size(head.page_size * head.commit) if head.commit else "deleted")
        for head in heads
    ]  # fmt: skip
    if not rows:
        click.echo(f"{vault.objects.url} is empty")
        return
    click.echo("\n".join(table([("DATABASE", "TXID", "LAST CHANGED", "SIZE"), *rows])))


def _list_states(vault: Vault, name: str, *, as_json: bool) -> None:
    from litefs_backup_store import plan

    files = vault.files(name)
    ways = plan.reachable(files)
    states = sorted({(pos.txid, entry.timestamp) for pos, entry in ways.items()})
    if not states:
        raise Failed(f'database not found: "{name}"', "litefs backup list prints those there are")
    if as_json:
        _print_json([{"txid": format_txid(txid), "time": _stamp(timestamp)} for txid, timestamp in states])
        return
    rows = [_level_row(level, text, files) for level, text in LEVELS.items() if any(f.level == level for f in files)]
    click.echo("\n".join(table([("STATES EVERY", "FILES", "SIZE", "FROM", "TO", "TXIDS"), *rows])))
    first, last = states[0], states[-1]
    click.echo(f"{len(states)} states from {_stamp(first[1])} to {_stamp(last[1])} can be restored")


def _level_row(level: int, text: str, files: list[Entry]) -> tuple[str, ...]:
    mine = sorted((entry for entry in files if entry.level == level), key=lambda entry: entry.max_txid)
    size = sum(entry.size for entry in mine)
    txids = f"{mine[0].min_txid:x}-{mine[-1].max_txid:x}"
    shown = _size(size) if size else "-"
    return text, str(len(mine)), shown, _stamp(mine[0].timestamp), _stamp(mine[-1].timestamp), txids


# ------------------------------------------------------------------------------------------------------------- verify


@go_command("verify")
@_where
@flag("db", default="", metavar="NAME", help="only this database")
def verify(config: str, db: str) -> None:
    """Read everything in the backup, and restore the newest state of every level to scratch."""
    from litefs.cli.transfers import progress_bar
    from litefs_backup_store.checking import check

    found = 0
    with _vault(config) as vault:
        names = [db] if db else sorted(vault.positions())
        for name in names:
            total = sum(entry.size for entry in vault.files(name))
            with progress_bar(f"verifying {name}") as start:
                findings = list(check(vault, name, start(total)))
            for finding in findings:
                click.echo(str(finding))
            click.echo(f"{name}: {len(findings)} problems" if findings else f"{name}: ok, {vault.head(name).pos}")
            found += len(findings)
    if found:
        raise Failed(f"the backup has {found} problems, see above")


# ------------------------------------------------------------------------------------------------------------ restore


@go_command("restore")
@_where
@flag("db", default="", metavar="NAME", help="database; all of them, with -to, if none is named")
@flag("time", default="", metavar="TIME", help="its state at this moment, like 2026-01-31T12:00:00Z")
@flag("txid", default="", metavar="TXID", help="its state after this transaction")
@flag("to", default="", metavar="FILE", help="write it to this file, or all to this directory; touch no cluster")
@flag("url", default="", metavar="URL", help="the cluster's primary; default: the node of -config")
def restore(config: str, db: str, time: str, txid: str, to: str, url: str) -> None:
    """Bring back a state, by default the newest: to a file, or into a running cluster as its next transaction.

    In a cluster readers stay, and what was there before can be restored like any other state.
    """
    if time and txid:
        raise ConfigError("give either -time or -txid")
    at = {"timestamp": _milliseconds(time) if time else 0, "txid": _txid(txid) if txid else 0}
    if to and url:
        raise ConfigError("give either -to or -url")
    with _vault(config) as vault:
        if not db and not to:
            raise ConfigError("-db is required", "or -to DIRECTORY for all databases")
        if not db:
            _restore_all(vault, Path(to), at)
        elif to:
            _report(db, _restore_to_file(vault, db, to, at), to)
        else:
            _restore_to_cluster(vault, db, Access.find(url, config=config), at)


def _restore_all(vault: Vault, directory: Path, at: dict[str, int]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, pos in sorted(vault.positions().items()):
        if os.sep in name:
            raise Failed(f'the database "{name}" cannot be the name of a file')
        try:
            head = _restore_to_file(vault, name, str(directory / name), at)
        except LitefsError as error:
            click.echo(f"{name}: {error}", err=True)
            continue
        _report(name, head, str(directory / name)) if pos.txid else None


def _restore_to_file(vault: Vault, name: str, path: str, at: dict[str, int]) -> Header:
    from litefs.cli.replacing import replacing

    with _snapshot(vault, name, at) as (source, head), replacing(path) as file:
        if not head.commit:
            raise Failed(f'"{name}" was deleted at that time', "name an earlier moment with -time or -txid")
        _write(name, source, file, head)
    return head


def _restore_to_cluster(vault: Vault, name: str, node: Access, at: dict[str, int]) -> None:
    from litefs.cli.transfers import Transfers, duration, progress_bar

    started = time.monotonic()
    with _snapshot(vault, name, at) as (source, head), tempfile.TemporaryFile() as file:
        if not head.commit:
            raise Failed(f'"{name}" was deleted at that time', "name an earlier moment with -time or -txid")
        _write(name, source, file, head)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        with Transfers(node) as api, progress_bar(f"importing {name}") as start:
            api.import_database(name, file, size, start(size))
    _report(name, head, f"the cluster, in {duration(time.monotonic() - started)}")


@contextmanager
def _snapshot(vault: Vault, name: str, at: dict[str, int]) -> Iterator[tuple[BinaryIO, Header]]:
    """The snapshot LTX file of a state, in a temporary file."""
    from litefs import ltx
    from litefs_backup_store.vault import DatabaseUnknown

    if not vault.head(name).pos.txid:
        raise DatabaseUnknown(name)
    if at["txid"] > vault.head(name).pos.txid:
        raise Failed(f'"{name}" has no transaction {format_txid(at["txid"])} yet', f"newest: {vault.head(name).pos}")
    with tempfile.TemporaryFile() as file:
        vault.restore(name, file, compress=False, **at)
        file.seek(0)
        head, _ = ltx.read_info(file)
        if at["txid"] and head.max_txid != at["txid"]:
            note = f"the nearest state that is kept before {format_txid(at['txid'])} is {format_txid(head.max_txid)}"
            click.echo(note, err=True)
        file.seek(0)
        yield file, head


def _write(name: str, source: BinaryIO, target: BinaryIO, head: Header) -> None:
    from litefs.cli.transfers import progress_bar
    from litefs_backup_store.image import write_image

    with progress_bar(f"restoring {name}") as start:
        write_image(source, target, start(head.commit * head.page_size))


def _report(name: str, head: Header, where: str) -> None:
    click.echo(f'"{name}" as of {_stamp(head.timestamp)}, transaction {format_txid(head.max_txid)}: {where}')


# --------------------------------------------------------------------------------------------------------------- texts


def _milliseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f'-time: "{text}" is no time', "write it like 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return int(moment.timestamp() * 1000)


def _txid(text: str) -> int:
    try:
        return parse_txid(text.lower().rjust(16, "0"))
    except LitefsError as error:
        raise ConfigError(f"-txid: {error}") from None


def _stamp(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _size(size: int) -> str:
    number = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError


def _print_json(content: Any) -> None:
    json.dump(content, sys.stdout, indent=2)
    click.echo()


for _each in (list_, verify, restore):
    command.add_command(_each)
