"""The pages, as HTML: all but those of a database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from litefs_backup_store.head import Head

from litefs_cloud_server.clusters import SILENT, Cluster
from litefs_cloud_server.web.markup import Html, document, join, tag
from litefs_cloud_server.web.sessions import Session
from litefs_cloud_server.web.wording import ago, link, moment, size, transaction

HINT = "export LITEFS_CLOUD_ENDPOINT=...  # this server\nexport LITEFS_CLOUD_TOKEN=...\nlitefs mount"


@dataclass(frozen=True)
class Frame:
    """What is around a page's content.

    Attributes:
        trail: the pages above it: text and path.
    """

    title: str
    session: Session | None
    trail: Sequence[tuple[str, str]] = ()


def page(frame: Frame, *content: str | None) -> str:
    """A whole page."""
    notice = frame.session.take_notice() if frame.session else ""
    return document(
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("link", rel="icon", href="data:,"),
            tag("link", rel="stylesheet", href="/style.css"),
            tag("title", f"{frame.title} - litefs cloud"),
        ),
        tag(
            "body",
            tag("header", tag("nav", *_trail(frame)), _log_out(frame.session)),
            tag("h1", frame.title),
            tag("p", notice, class_="notice", role="status") if notice else None,
            *content,
        ),
    )


def _trail(frame: Frame) -> list[Html]:
    steps = [("litefs cloud", "/"), *frame.trail]
    return [join(tag("a", text, href=path), " / ") for text, path in steps]


def _log_out(session: Session | None) -> Html | None:
    if session is None:
        return None
    return tag("form", proof(session), tag("button", "Log out"), method="post", action="/logout")


def proof(session: Session) -> Html:
    """What shows that a form is of this session."""
    return tag("input", type="hidden", name="proof", value=session.proof)


def login(problem: str) -> str:
    """Where a token is asked for."""
    # Password managers tell passwords apart by a name.
    user = tag("input", type="text", value="litefs cloud", autocomplete="username", hidden="")
    field = tag("input", type="password", name="token", autocomplete="current-password", required="", autofocus="")
    return page(
        Frame("Log in", None),
        tag("p", problem, class_="warning", role="alert") if problem else None,
        tag("form", user, tag("label", "Token ", field), tag("button", "Log in"), method="post", action="/login"),
        tag(
            "p",
            "A token of a cluster shows that cluster. On the server, this makes one that can only look and download:",
        ),
        tag("pre", "litefs cloud token create -cluster NAME -read-only"),
        tag("p", "With -all instead of -cluster NAME it is for all clusters; without -read-only it also restores."),
    )


def trouble(session: Session | None, text: str) -> str:
    """A page that says what cannot be done."""
    return page(Frame("That cannot be done", session), tag("p", text, class_="warning", role="alert"))


# ----------------------------------------------------------------------------------------------------------- clusters


def overview(session: Session, rows: Sequence[tuple[str, Cluster, Sequence[Head]]]) -> str:
    """All clusters."""
    lines = [
        tag(
            "tr",
            tag("td", tag("a", name, href=f"/c/{name}")),
            tag("td", str(sum(1 for head in heads if head.commit)), class_="n"),
            tag("td", _newest(heads)),
            tag("td", _heard(cluster)),
        )
        for name, cluster, heads in rows
    ]
    titles = ("Cluster", "Databases", "Newest transaction", "Heard of")
    return page(Frame("Clusters", session), table(titles, lines) if lines else tag("p", "There is no cluster yet."))


def _newest(heads: Sequence[Head]) -> str:
    return moment(max(head.timestamp for head in heads)) if heads else "-"


def _heard(cluster: Cluster) -> str:
    return ago(time.time() - cluster.heard) if cluster.heard else "not since the server started"


def cluster_page(session: Session, name: str, cluster: Cluster, heads: Sequence[Head], *, changes: bool) -> str:
    """One cluster: its databases.

    Args:
        changes: whether the reader may hand it over.
    """
    lines = [
        tag(
            "tr",
            tag("td", tag("a", head.database, href=link(f"/c/{name}/db", db=head.database))),
            tag("td", transaction(head.pos)),
            tag("td", size(head.commit * head.page_size) if head.commit else "deleted", class_="n"),
            tag("td", moment(head.timestamp)),
        )
        for head in heads
    ]
    known = facts(("Cluster id", cluster.cluster_id or "-"), ("Heard of", _heard(cluster)))
    titles = ("Database", "Transaction", "Size", "Of (UTC)")
    found = table(titles, lines) if lines else tag("p", "Nothing has been backed up yet. On the nodes:")
    hint = None if lines else tag("pre", HINT)
    return page(Frame(name, session), known, _claimant(session, name, cluster, changes=changes), found, hint)


def _claimant(session: Session, name: str, cluster: Cluster, *, changes: bool) -> Html | None:
    """Another cluster that asks for the backup: perhaps the same one, made anew."""
    if cluster.claimant is None or time.time() - cluster.claimant[1] > SILENT:
        return None
    other, at = cluster.claimant
    text = (
        f"A cluster with another id, {other}, asks for this backup ({ago(time.time() - at)}). It is refused until "
        "nothing has been heard of the one with this id for a minute. If that one is lost for good, it need not wait."
    )
    button = tag("button", "Hand the backup over")
    hidden = tag("input", type="hidden", name="to", value=other)
    form = tag("form", proof(session), hidden, button, method="post", action=f"/c/{name}/hand-over")
    return tag("div", tag("p", text), form if changes else None, class_="warning", role="alert")


def table(titles: Sequence[str], lines: Sequence[Html]) -> Html:
    """A table; titles that are names of numbers stand right."""
    numbers = {"Databases", "Size"}
    head = tag("tr", *(tag("th", title, class_="n" if title in numbers else None) for title in titles))
    return tag("table", tag("thead", head), tag("tbody", *lines))


def facts(*facts: tuple[str, str]) -> Html:
    """Names with what is to be said of them."""
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in facts))
