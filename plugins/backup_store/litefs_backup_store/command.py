"""``litefs backup``: what is there, whether it is whole, and getting it back."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from litefs.cli.access import Access
from litefs.cli.flags import flag, go_command, switch
from litefs.cli.rows import table
from litefs.errors import ConfigError, LitefsError
from litefs.ltx import Header, format_txid, parse_txid
from litefs_backup_store.texts import show_size, show_time

if TYPE_CHECKING:
    from litefs_backup_store.source import Source


class Failed(LitefsError):
    """The backup is not what it should be."""


@click.group("backup", context_settings={"help_option_names": ["-h", "-help", "--help"]})
def command() -> None:
    """Look at the backup that litefs.yml names, check it, restore from it."""


def _where(function: Callable[..., Any]) -> Callable[..., Any]:
    return flag("config", default="", metavar="PATH", help="litefs.yml whose backup section names it")(function)


@contextmanager
def _source(config: str) -> Iterator[Source]:
    from litefs.config import load
    from litefs_backup_store.source import open_source

    source = open_source(load(config or None).backup)
    try:
        yield source
    finally:
        source.close()


# --------------------------------------------------------------------------------------------------------------- list


@go_command("list")
@_where
@flag("db", default="", metavar="NAME", help="show the states of this database that can be restored")
@switch("json", help="print JSON")
def list_(config: str, db: str, json: bool) -> None:
    """Print every database in the backup, or the states of one that can be restored."""
    with _source(config) as source:
        if db:
            _list_states(source, db, as_json=json)
        else:
            _list_databases(source, as_json=json)


def _list_databases(source: Source, *, as_json: bool) -> None:
    found = source.databases()
    if as_json:
        _print_json({
            held.name: {"txid": format_txid(held.pos.txid), "checksum": f"{held.pos.checksum:016x}",
                        "time": show_time(held.time) if held.time else None, "bytes": held.size}
            for held in found
        })  # fmt: skip
        return
    rows = [
        (held.name, format_txid(held.pos.txid), show_time(held.time), _size(held.size))
        for held in found
    ]  # fmt: skip
    if not rows:
        click.echo(f"{source.url} is empty")
        return
    click.echo("\n".join(table([("DATABASE", "TXID", "LAST CHANGED", "SIZE"), *rows])))


def _size(size: int | None) -> str:
    if size is None:
        return "-"
    return show_size(size) if size else "deleted"


def _list_states(source: Source, name: str, *, as_json: bool) -> None:
    states = source.states(name)
    if as_json:
        _print_json([{"txid": format_txid(state.txid), "time": show_time(state.time)} for state in states.found])
        return
    if states.table:
        click.echo("\n".join(table(states.table)))
    first, last = states.found[0], states.found[-1]
    many = f"{len(states.found)} states" if states.complete else "states"
    click.echo(f"{many} from {show_time(first.time)} to {show_time(last.time)} can be restored")


# ------------------------------------------------------------------------------------------------------------- verify


@go_command("verify")
@_where
@flag("db", default="", metavar="NAME", help="only this database")
def verify(config: str, db: str) -> None:
    """Read everything in the backup, and restore the newest state of every level to scratch.

    Of a server: what it lets one read, which is the newest and the oldest state.
    """
    from litefs.cli.transfers import progress_bar

    problems = 0
    with _source(config) as source:
        positions = {held.name: held.pos for held in source.databases()}
        for name in [db] if db else positions:
            with progress_bar(f"verifying {name}") as start:
                findings = list(source.check(name, start(source.size(name))))
            for finding in findings:
                click.echo(f"{name}: {finding}")
            click.echo(f"{name}: {len(findings)} problems" if findings else f"{name}: ok, {positions.get(name)}")
            problems += len(findings)
    if problems:
        raise Failed(f"the backup has {problems} problems, see above")


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
        raise ConfigError("give either -time or -txid", "both name a state")
    at = {"timestamp": _milliseconds(time) if time else 0, "txid": _txid(txid) if txid else 0}
    if to and url:
        raise ConfigError("give either -to or -url", "a file, or a cluster")
    with _source(config) as source:
        if not db and not to:
            raise ConfigError("-db is required", "or -to DIRECTORY for all databases")
        if not db:
            _restore_all(source, Path(to), at)
        elif to:
            _report(db, _restore_to_file(source, db, to, at), to)
        else:
            _restore_to_cluster(source, db, Access.find(url, config=config), at)


def _restore_all(source: Source, directory: Path, at: dict[str, int]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for held in source.databases():
        if os.sep in held.name:
            raise Failed(f'the database "{held.name}" cannot be the name of a file')
        try:
            head = _restore_to_file(source, held.name, str(directory / held.name), at)
        except LitefsError as error:
            click.echo(f"{held.name}: {error}", err=True)
            continue
        _report(held.name, head, str(directory / held.name))


def _restore_to_file(source: Source, name: str, path: str, at: dict[str, int]) -> Header:
    from litefs.cli.replacing import replacing

    with _snapshot(source, name, at) as (snapshot, head), replacing(path) as file:
        if not head.commit:
            raise Failed(f'"{name}" was deleted at that time', "name an earlier moment with -time or -txid")
        _write(name, snapshot, file, head)
    return head


def _restore_to_cluster(source: Source, name: str, node: Access, at: dict[str, int]) -> None:
    from litefs.cli.transfers import Transfers, duration, progress_bar

    started = time.monotonic()
    with _snapshot(source, name, at) as (snapshot, head), tempfile.TemporaryFile() as file:
        if not head.commit:
            raise Failed(f'"{name}" was deleted at that time', "name an earlier moment with -time or -txid")
        _write(name, snapshot, file, head)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        with Transfers(node) as api, progress_bar(f"importing {name}") as start:
            api.import_database(name, file, size, start(size))
    _report(name, head, f"the cluster, in {duration(time.monotonic() - started)}")


@contextmanager
def _snapshot(source: Source, name: str, at: dict[str, int]) -> Iterator[tuple[BinaryIO, Header]]:
    """The snapshot LTX file of a state, verified, in a temporary file."""
    from litefs import ltx
    from litefs_backup_store.vault import DatabaseUnknown

    newest = next((held.pos for held in source.databases() if held.name == name), None)
    if newest is None:
        raise DatabaseUnknown(name)
    if at["txid"] > newest.txid:
        raise Failed(f'"{name}" has no transaction {format_txid(at["txid"])} yet', f"newest: {newest}")
    with tempfile.TemporaryFile() as file:
        source.restore(name, file, **at)
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
    click.echo(f'"{name}" as of {show_time(head.timestamp)}, transaction {format_txid(head.max_txid)}: {where}')


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


def _print_json(content: Any) -> None:
    json.dump(content, sys.stdout, indent=2)
    click.echo()


for _each in (list_, verify, restore):
    command.add_command(_each)
