"""
The sandbox's memory: one SQLite file, so a restart goes on where the process stopped.

Every act is one IMMEDIATE transaction: two requests never interleave, and a killed process
leaves a whole act or nothing.
"""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = """
CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), now TEXT);
CREATE TABLE IF NOT EXISTS account (
    number TEXT, currency TEXT, owner TEXT NOT NULL DEFAULT '',
    closing_minor INTEGER NOT NULL DEFAULT 0, statements INTEGER NOT NULL DEFAULT 0,
    last_day TEXT NOT NULL DEFAULT '', PRIMARY KEY (number, currency)
);
CREATE TABLE IF NOT EXISTS message (
    message_id TEXT PRIMARY KEY, sha256 TEXT NOT NULL, received_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS due (
    id INTEGER PRIMARY KEY AUTOINCREMENT, number TEXT NOT NULL, currency TEXT NOT NULL,
    day TEXT NOT NULL, entry TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS answer (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, sha256 TEXT NOT NULL,
    body BLOB NOT NULL, made_at TEXT NOT NULL, number TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS withheld (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body BLOB NOT NULL,
    number TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS hook (
    id INTEGER PRIMARY KEY AUTOINCREMENT, url TEXT NOT NULL UNIQUE, secrets TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS psp_event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
    object TEXT NOT NULL, body BLOB NOT NULL, made_at TEXT NOT NULL, kept_back TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS behavior (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, matching TEXT NOT NULL,
    options TEXT NOT NULL, times INTEGER
);
"""


def default_path() -> Path:
    """Return where the database lies unless told otherwise."""
    given = os.environ.get("KASSA_SANDBOX_DATABASE")
    return Path(given) if given else Path(__file__).parents[1] / "var" / "sandbox.sqlite3"


def prepare(path: Path) -> None:
    """Make the database, or leave the one that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
        for table in ("answer", "withheld"):
            # A memory from before answers knew whose they are.
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            if "number" not in columns:
                connection.execute(
                    f"ALTER TABLE {table} ADD COLUMN number TEXT NOT NULL DEFAULT ''"
                )
    finally:
        connection.close()


@contextmanager
def act(path: Path) -> Iterator[sqlite3.Connection]:
    """Run one act in one transaction, on a connection of its own."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    finally:
        connection.close()


def set_clock(db: sqlite3.Connection, *, now: dt.datetime | None) -> None:
    """Stop the clock at an instant, or let it run with the machine's."""
    text = now.astimezone(dt.UTC).isoformat() if now else None
    db.execute("INSERT OR REPLACE INTO clock (id, now) VALUES (1, ?)", (text,))


def stopped_at(db: sqlite3.Connection) -> dt.datetime | None:
    """Return the instant at which the clock was stopped, or None while it runs."""
    row = db.execute("SELECT now FROM clock").fetchone()
    return dt.datetime.fromisoformat(row["now"]) if row and row["now"] else None


def read_clock(db: sqlite3.Connection) -> dt.datetime:
    """Return the bank's time."""
    return stopped_at(db) or dt.datetime.now(dt.UTC)  # noqa: TID251  (the sandbox has its own clock)
