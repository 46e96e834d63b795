"""Notes with Flask, their words counted by Huey: both keep everything in one SQLite file and know nothing of litefs."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from flask import Flask, redirect, render_template_string, request
from huey import SqliteHuey

DATABASE, NODE = os.environ["DATABASE"], os.environ["HOSTNAME"]
PAGE = """<!doctype html>
<title>Notes</title>
<form method=post action=/notes><input name=text autofocus> <button>Leave a note</button></form>
<ul>{% for note in notes %}<li>{{ note.text }}{% endfor %}</ul>
<p>Shown by node {{ node }}.
"""

app = Flask(__name__)

# Two things differ from an ordinary Huey. Its tables and WAL mode are migrate.py's to make: by default each program
# would do so when it starts, which cannot work on a replica. And it keeps no results: reading one deletes it, which
# only the primary can.
huey = SqliteHuey("notes", filename=DATABASE, create_tables=False, journal_mode=None, results=False)


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A connection for one transaction."""
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.row_factory = sqlite3.Row
        yield db


def rows(query: str) -> list[dict[str, Any]]:
    with database() as db:
        return [dict(row) for row in db.execute(query)]


# ------------------------------------------------------------------------------------------- the web, on all nodes


@app.get("/")
def page() -> str:
    return render_template_string(PAGE, notes=rows("select text from notes order by id"), node=NODE)


@app.get("/notes")
def notes() -> list[dict[str, Any]]:
    return rows("select * from notes order by id")


@app.get("/diary")
def diary() -> list[dict[str, Any]]:
    return rows("select * from diary order by id")


@app.post("/notes")
def leave_note() -> Any:
    """Runs on the primary, whichever node was asked: that is the proxy's doing. So it may write and enqueue."""
    text = request.form.get("text", "").strip()
    if not text:
        return "a note needs a text\n", 400
    with database() as db:
        number = db.execute("insert into notes (text, node) values (?, ?)", (text, NODE)).lastrowid
    count_words(number)
    return redirect("/", 303)


# --------------------------------------------------------------------- the worker: huey_consumer, on the primary only


@huey.task(retries=2, retry_delay=1)
def count_words(number: int) -> None:
    with database() as db:
        (text,) = db.execute("select text from notes where id = ?", (number,)).fetchone()
        words = len(text.split())
        db.execute("update notes set words = ?, counted_by = ? where id = ?", (words, NODE, number))


def tell(what: str) -> None:
    with database() as db:
        db.execute("insert into diary (node, what) values (?, ?)", (NODE, what))


@huey.on_startup()
def began() -> None:
    tell("worker began")
    # Huey takes a job out of its queue before it does it. One that a crashed primary had taken is in no queue any more.
    for note in rows("select id from notes where words is null"):
        count_words(note["id"])


@huey.on_shutdown()
def ended() -> None:
    tell("worker ended")  # before another node becomes primary, so this can still be written
