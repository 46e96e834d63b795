"""``litefs events``."""

from __future__ import annotations

import sys
from json import dumps
from typing import Any

import click

from litefs.cli.access import Access, node_flags
from litefs.cli.flags import flag, go_command, switch
from litefs.cli.rows import plain
from litefs.cli.subscription import EventStream, Line, follow
from litefs.errors import ConfigError

TYPES = ("init", "tx", "primaryChange")


@go_command("events")
@flag("filter", default="", metavar="TYPE,..", help=f"Only events of these types: {', '.join(TYPES)}.")
@flag("name", default="", metavar="DB,..", help="Of transactions, only those of these databases.")
@flag("count", default=0, metavar="N", help="End with exit code 0 after N lines; default: never.")
@switch("json", help="Print the events as the node sends them, one JSON object a line.")
@switch("wait", help="Wait for a node that cannot be reached yet, instead of failing.")
@switch("no-reconnect", help="End with exit code 1 when the connection is lost, instead of making a new one.")
@node_flags
def command(filter: str, name: str, count: int, json: bool, wait: bool, no_reconnect: bool, access: Access) -> None:
    """Print what happens on a node: transactions, and changes of the primary. One line each, at once.

    After each (new) connection an init line says who is primary; events of the time between are lost.
    """
    types, databases = _types(filter), set(filter_words(name))
    if count < 0:
        raise ConfigError(f"-count {count} is no number of lines", "leave it away for all of them")
    left = count
    with EventStream(access) as node:
        for line in follow(node.events, wait=wait, reconnect=not no_reconnect, say=_say):
            if not _wanted(line.event, types, databases):
                continue
            _print(line, json)
            left -= 1
            if left == 0:
                return


def filter_words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _types(text: str) -> set[str]:
    found = filter_words(text)
    for word in found:
        if word not in TYPES:
            raise ConfigError(f'-filter: there is no event "{word}"', f"known are {', '.join(TYPES)}")
    return set(found)


def _wanted(event: dict[str, Any], types: set[str], databases: set[str]) -> bool:
    if types and event["type"] not in types:
        return False
    return not databases or "db" not in event or str(event["db"]) in databases


def _print(line: Line, json: bool) -> None:
    text = line.text if json else describe(line.event).encode()
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()  # whoever reads a pipe wants it now


def describe(event: dict[str, Any]) -> str:
    """A line about an event, for people."""
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    if event["type"] not in TYPES:
        words = [dumps(data)]
    elif event["type"] == "tx":
        known = [data.get(key, "-") for key in ("txID", "postApplyChecksum", "timestamp")]
        words = [event.get("db", "-"), *known, _size(data)]
    elif data.get("isPrimary"):
        words = ["this node is primary"]
    else:
        words = [f"primary is {data['hostname']}" if data.get("hostname") else "no primary is known"]
    return plain("  ".join([f"{event['type']:13}", *map(str, words)]))


def _size(data: dict[str, Any]) -> str:
    pages = data.get("commit")
    return "deleted" if pages == 0 else f"{pages} page{'' if pages == 1 else 's'}"


def _say(text: str) -> None:
    click.echo(f"litefs events: {text}", err=True)
