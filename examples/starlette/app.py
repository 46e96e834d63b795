"""Notes, as a web application: it opens a SQLite file and knows nothing of litefs.

Whoever visits may leave a note. worker.py counts the words of each, later, in the background.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from html import escape
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

PAGE = """<!doctype html>
<title>Notes</title>
<form method=post action=/notes><input name=text autofocus> <button>Leave a note</button></form>
<ul>{notes}</ul>
<p>Shown by node {node}.
"""


def rows(query: str) -> list[dict[str, Any]]:
    """What a query finds."""
    with closing(sqlite3.connect(os.environ["DATABASE"])) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(query)]


def write(statement: str, *values: object) -> None:
    """One transaction."""
    with closing(sqlite3.connect(os.environ["DATABASE"])) as db, db:
        db.execute(statement, values)


# Starlette runs handlers without async in threads, where SQLite may block.
def page(request: Request) -> Response:
    notes = "".join(f"<li>{escape(note['text'])}" for note in rows("select text from notes order by id"))
    return HTMLResponse(PAGE.format(notes=notes, node=escape(os.environ["HOSTNAME"])))


def notes(request: Request) -> Response:
    return JSONResponse(rows("select * from notes order by id"))


def diary(request: Request) -> Response:
    return JSONResponse(rows("select * from diary order by id"))


async def leave_note(request: Request) -> Response:
    form = parse_qs((await request.body()).decode())
    text = form.get("text", [""])[0].strip()
    if not text:
        return PlainTextResponse("a note needs a text\n", 400)
    await run_in_threadpool(write, "insert into notes (text, node) values (?, ?)", text, os.environ["HOSTNAME"])
    return RedirectResponse("/", 303)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/notes", notes),
        Route("/notes", leave_note, methods=["POST"]),
        Route("/diary", diary),
    ]
)
