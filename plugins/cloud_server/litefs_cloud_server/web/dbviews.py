"""The pages of a database, as HTML."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from litefs_backup_store.head import Head

from litefs_cloud_server.clusters import SILENT, Cluster
from litefs_cloud_server.timeline import Bar, Point
from litefs_cloud_server.web.markup import Html, join, tag
from litefs_cloud_server.web.sessions import Session
from litefs_cloud_server.web.views import Frame, facts, page, proof, table
from litefs_cloud_server.web.wording import link, moment, size, transaction

HEIGHT = 80  # of the timeline, in units of its own
WIDTH = 10  # of a bar and the space after it


@dataclass(frozen=True)
class Shown:
    """A database page's content.

    Attributes:
        stored: bytes of the files that are kept.
        points: states that are listed.
        older: the state from which an older list goes on.
        bars: when something happened.
        chosen: the state that was asked for.
        changes: whether the reader may restore.
    """

    cluster_name: str
    cluster: Cluster
    head: Head
    stored: int
    count: int
    points: Sequence[Point]
    older: Point | None
    bars: Sequence[Bar]
    chosen: Point | None
    changes: bool

    def url(self, what: str, **query: str) -> str:
        """Another page about the database."""
        return link(f"/c/{self.cluster_name}/{what}", db=self.head.database, **query)


def database(session: Session, shown: Shown) -> str:
    """One database: where it stands, and every state that can be had."""
    head = shown.head
    known = facts(
        ("Newest state", join("transaction ", transaction(head.pos), " of ", moment(head.timestamp))),
        ("Size", size(head.commit * head.page_size) if head.commit else "deleted"),
        ("Stored", f"{size(shown.stored)} for {shown.count} states"),
        *_restored(shown),
    )
    lines = [
        tag(
            "tr",
            tag("td", transaction(point.pos)),
            tag("td", moment(point.timestamp)),
            tag("td", _offers(shown, point)),
        )
        for point in shown.points
    ]
    return page(
        Frame(head.database, session, [(shown.cluster_name, f"/c/{shown.cluster_name}")]),
        known,
        tag("h2", "A state by its time or its transaction"),
        _search(shown),
        _chosen(shown),
        tag("h2", "States"),
        _timeline(shown),
        table(("Transaction", "Of (UTC)", ""), lines),
        _older(shown),
    )


def _older(shown: Shown) -> Html | None:
    if shown.older is None:
        return None
    return tag("p", tag("a", "Older states", href=shown.url("db", until=f"{shown.older.pos.txid:x}")))


def _restored(shown: Shown) -> list[tuple[str, str]]:
    """What has become of the last restore."""
    made = shown.cluster.restored.get(shown.head.database)
    if made is None:
        return []
    txid, at = made
    fetched = shown.cluster.fetched.get(shown.head.database, (0, 0.0))
    if fetched[0] >= txid:
        then = join("the primary fetched it ", moment(int(fetched[1] * 1000)))
    elif shown.head.pos.txid > txid:
        then = join("the cluster has gone on from it")
    else:
        then = join("the primary, which asks every 10 s, has not fetched it yet")
    return [("Restored", join("as transaction ", tag("code", f"{txid:x}"), " ", moment(int(at * 1000)), ": ", then))]


def _search(shown: Shown) -> Html:
    """A form for each way to name a state."""
    hidden = tag("input", type="hidden", name="db", value=shown.head.database)
    when = tag("input", type="datetime-local", name="at", step="1", required="")
    which = tag("input", type="text", name="txid", pattern="[0-9A-Fa-f]{1,16}", required="", size="17")
    action = f"/c/{shown.cluster_name}/db"
    return join(
        tag("form", hidden, tag("label", "at or before (UTC) ", when), tag("button", "Find"), action=action),
        tag(
            "form",
            hidden,
            tag("label", "transaction, or the last before it ", which),
            tag("button", "Find"),
            action=action,
        ),
    )


def _chosen(shown: Shown) -> Html | None:
    point = shown.chosen
    if point is None:
        return None
    return tag(
        "p",
        join("Transaction ", transaction(point.pos), " of ", moment(point.timestamp), ": ", _offers(shown, point)),
        class_="state",
        role="status",
    )


def _offers(shown: Shown, point: Point) -> Html:
    """What can be done with a state."""
    if point.deleted:
        return join("deleted")
    txid = f"{point.pos.txid:x}"
    download = tag("a", "Download", href=shown.url("download", txid=txid))
    if not shown.changes or point.pos == shown.head.pos:
        return download
    return join(download, " · ", tag("a", "Restore…", href=shown.url("restore", txid=txid)))


def _timeline(shown: Shown) -> Html | None:
    """How much happened when; each bar leads to its states."""
    if len(shown.bars) < 2:
        return None
    most = max(math.log1p(bar.transactions) for bar in shown.bars)
    drawn = [_bar(shown, number, bar, most) for number, bar in enumerate(shown.bars) if bar.transactions]
    view = f"0 0 {WIDTH * len(shown.bars)} {HEIGHT}"
    return tag("svg", *drawn, viewBox=view, preserveAspectRatio="none", role="img", aria_label="Transactions over time")


def _bar(shown: Shown, number: int, bar: Bar, most: float) -> Html:
    height = max(3, round(HEIGHT * math.log1p(bar.transactions) / most))
    return tag(
        "a",
        tag("title", f"{bar.transactions} transactions until {moment_text(bar.end)}"),
        tag(
            "rect",
            x=str(number * WIDTH),
            y=str(HEIGHT - height),
            width=str(WIDTH - 2),
            height=str(height),
        ),
        href=shown.url("db", until_time=str(bar.end)),
    )


def moment_text(milliseconds: int) -> str:
    """A time without markup."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))


def confirm(session: Session, shown: Shown, asked: str) -> str:
    """What a restore will do, and the button for it."""
    head, point = shown.head, shown.chosen
    assert point is not None
    txid = f"{point.pos.txid:x}"
    other = f"Transaction {asked} is not kept as a state of its own any more; this is the last one before it."
    silent = shown.cluster.heard is None or time.time() - shown.cluster.heard > SILENT
    return page(
        Frame(
            f"Restore {head.database}",
            session,
            [(shown.cluster_name, f"/c/{shown.cluster_name}"), (head.database, shown.url("db"))],
        ),
        tag("p", other, class_="warning") if asked != txid else None,
        facts(
            ("Now", join("transaction ", transaction(head.pos), " of ", moment(head.timestamp))),
            ("Becomes", join("the state after transaction ", transaction(point.pos), " of ", moment(point.timestamp))),
        ),
        tag(
            "p",
            "The old state becomes the newest transaction here. The primary fetches it within 10 seconds, its replicas "
            "follow; open connections stay, and see it with their next transaction. What was committed after the old "
            "state is not in it: what has arrived here stays in the past of this backup, and nodes of litefs keep what "
            "has not arrived yet as a branch. This can be undone by restoring "
            f"transaction {head.pos.txid:x}. Nodes with backup.on-mismatch other than restore do not follow.",
        ),
        tag(
            "p",
            "No node of this cluster has been heard of within the last minute: the state waits here for its primary.",
            class_="warning",
        )
        if silent
        else None,
        tag(
            "form",
            proof(session),
            tag("input", type="hidden", name="db", value=head.database),
            tag("input", type="hidden", name="txid", value=txid),
            tag("button", f"Restore transaction {txid}"),
            method="post",
            action=f"/c/{shown.cluster_name}/restore",
        ),
    )
