"""A background worker: writes its node's name into the database until it is told to stop, or cannot write any more.

Arguments: the database, the node's name, and a folder for its diary and for a lock that only one worker may have.
"""

import os
import signal
import sqlite3
import sys
import time

database, node, folder = sys.argv[1:]
stopping = False


def note(text: str) -> None:
    with open(f"{folder}/diary", "a") as file:
        file.write(f"{node} {text}\n")


def stop(number: int, frame: object) -> None:
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)
connection = sqlite3.connect(database, timeout=5, isolation_level=None)


def write(text: str) -> None:
    connection.execute("insert into work (node, text) values (?, ?)", (node, text))


lock = f"{folder}/lock"
try:
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
except FileExistsError:
    note("TWICE")
try:
    write("begin")
    note("begin")
    while not stopping:
        write("job")
        time.sleep(0.01)
    write("last words")
    note("end")
except sqlite3.Error as error:
    note(f"failed: {error}")
    sys.exit(1)
finally:
    if os.path.exists(lock):
        os.unlink(lock)
