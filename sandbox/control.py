"""
Misbehaviour on request: rows that say what to do wrong, to whom, and how many times.

A row matches when each of its conditions equals the fact of the same name; no condition matches
everything. The oldest row that matches is used, and used up.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

# Which facts a behaviour may ask for, and which options it takes.
CONDITIONS = {"msg_id", "payment_id", "end_to_end_id", "iban", "amount", "kind"} | {
    "event_id",
    "type",
    "object",
}
OPTIONS = {
    "reject": {"level", "code"},
    "return": {"code", "fee", "twice", "days"},
    "timeout_before": {"seconds"},
    "timeout_after": {"seconds"},
    "duplicate_file": set(),
    "statement_gap": set(),
    "statement_wrong_sum": {"by"},
    "no_answer": set(),
    "duplicate_event": {"copies", "at_once"},
    "reorder_event": set(),
    "delay_event": set(),
    "drop_event": set(),
    "wrong_signature": set(),
    "old_timestamp": {"seconds"},
    "two_secrets": set(),
}
LEVELS = ("group", "payment", "transaction")


class UnknownBehavior(ValueError):
    """What was asked for is not something the sandbox can do."""


def add(
    db: sqlite3.Connection,
    *,
    behavior: str,
    match: Mapping[str, str],
    times: int | None,
    options: Mapping[str, Any],
) -> int:
    """
    Store a behaviour and return its number; `times` None means every time.

    :raises UnknownBehavior: if a name, condition or option is not one of ours
    """
    if behavior not in OPTIONS:
        raise UnknownBehavior(f"behaviour must be one of {', '.join(OPTIONS)}")
    if unknown := (set(match) - CONDITIONS) | (set(options) - OPTIONS[behavior]):
        raise UnknownBehavior(f"not known for {behavior}: {', '.join(sorted(unknown))}")
    if behavior == "reject" and options.get("level", "transaction") not in LEVELS:
        raise UnknownBehavior(f"level must be one of {', '.join(LEVELS)}")
    if behavior in {"reject", "return"} and not options.get("code"):
        raise UnknownBehavior(f"{behavior} needs a code")
    row = db.execute(
        "INSERT INTO behavior (name, matching, options, times) VALUES (?, ?, ?, ?)",
        (behavior, json.dumps(dict(match)), json.dumps(dict(options)), times),
    )
    return int(row.lastrowid or 0)


def take(
    db: sqlite3.Connection, *, behavior: str, facts: Mapping[str, str], level: str = ""
) -> dict[str, Any] | None:
    """Use one of the behaviours of this name that matches, and return its options."""
    rows = db.execute(
        "SELECT * FROM behavior WHERE name = ? AND (times IS NULL OR times > 0) ORDER BY id",
        (behavior,),
    )
    for row in rows.fetchall():
        options: dict[str, Any] = json.loads(row["options"])
        matching: dict[str, str] = json.loads(row["matching"])
        if level and options.get("level", "transaction") != level:
            continue
        if all(facts.get(name) == str(value) for name, value in matching.items()):
            db.execute("UPDATE behavior SET times = times - 1 WHERE id = ?", (row["id"],))
            return options
    return None


def listed(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """List every behaviour that is still to come."""
    rows = db.execute("SELECT * FROM behavior WHERE times IS NULL OR times > 0 ORDER BY id")
    return [
        {
            "id": row["id"],
            "behaviour": row["name"],
            "match": json.loads(row["matching"]),
            "options": json.loads(row["options"]),
            "times": row["times"],
        }
        for row in rows.fetchall()
    ]


def clear(db: sqlite3.Connection) -> None:
    """Behave again."""
    db.execute("DELETE FROM behavior")
