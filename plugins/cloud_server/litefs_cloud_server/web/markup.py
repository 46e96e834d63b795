"""HTML out of Python. Whatever is not marked as HTML is text, and is escaped."""

from __future__ import annotations

from html import escape

VOID = frozenset({"input", "link", "meta", "br"})
"""Elements without content."""


class Html(str):
    """Text that is HTML already; only this module makes it."""

    __slots__ = ()


def join(*parts: str | None) -> Html:
    """One piece of HTML out of several; None is nothing."""
    return Html("".join(_escaped(part) for part in parts if part is not None))


def tag(name: str, /, *children: str | None, **attributes: str | None) -> Html:
    """An element. A trailing ``_`` of an attribute's name is dropped, others are dashes; None leaves it out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>") if name in VOID else Html(f"<{name}{given}>{join(*children)}</{name}>")


def document(*children: str) -> Html:
    """A whole page."""
    return Html(f"<!DOCTYPE html>\n{tag('html', *children, lang='en')}\n")


def _escaped(text: str) -> str:
    return text if isinstance(text, Html) else escape(text.encode("utf-8", "replace").decode())
