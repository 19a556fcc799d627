"""
The card provider's events: made once, signed as Standard Webhooks, and sent to whoever subscribed.

What is to be sent is decided in one act of the store, and sent after it: no act waits for a
receiver. The signer is the sandbox's own. Events stay readable, also those that were never sent, so
that a client can fetch what it missed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sandbox import control, store

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
SECRET_BYTES = 32
SECRETS_MAX = 8
SEND_SECONDS_MAX = 20.0
OLD_SECONDS = 301
KEPT_BACK = ("drop_event", "delay_event", "reorder_event")


class Refused(ValueError):
    """The request is not one that the provider takes."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One request to be sent, signed; `copies` of it, one by one or at once."""

    event_id: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    copies: int = 1
    at_once: bool = False


def subscribe(db: sqlite3.Connection, *, url: str, secrets: Sequence[str] = ()) -> dict[str, Any]:
    """
    Have events sent to a URL, signed with these secrets, the newest first, or with a fresh one.

    Doing it again for a URL replaces its secrets.

    :raises Refused: if the URL is not on the loopback, or a secret is none
    """
    if urlsplit(url).scheme != "http" or urlsplit(url).hostname not in LOOPBACK:
        raise Refused("the sandbox sends to the loopback only, by http")
    given = list(secrets) or [_write_secret(os.urandom(SECRET_BYTES))]
    if len(given) > SECRETS_MAX or not all(_read_secret(each) for each in given):
        raise Refused("a secret is whsec_ and base64, and there are eight at most")
    db.execute(
        "INSERT INTO hook (url, secrets) VALUES (?, ?)"
        " ON CONFLICT (url) DO UPDATE SET secrets = excluded.secrets",
        (url, json.dumps(given)),
    )
    return {"url": url, "secrets": given}


def make_event(
    db: sqlite3.Connection, *, type_: str, data: Mapping[str, Any], id_: str = ""
) -> tuple[str, list[Message]]:
    """
    Make an event; return its id and what is to be sent now, in this order.

    A behaviour may keep it back, or have what was kept back to be reordered follow it.

    :raises Refused: if the type or the id cannot be one
    """
    now = store.read_clock(db)
    made = db.execute("SELECT count(*) AS n FROM psp_event").fetchone()["n"] + 1
    id_ = id_ or f"pspe_{made:08d}"
    if not type_ or "." in id_ or not id_.isascii():
        raise Refused("an event has a type, and an id without a full stop")
    content = {"id": id_, "type": type_, "timestamp": now.isoformat(), "data": dict(data)}
    facts = {"event_id": id_, "type": type_, "object": str(data.get("id", ""))}
    kept_back = next(
        (each for each in KEPT_BACK if control.take(db, behavior=each, facts=facts) is not None),
        "",
    )
    db.execute(
        "INSERT INTO psp_event (id, type, object, body, made_at, kept_back)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            id_,
            type_,
            facts["object"],
            json.dumps(content).encode(),
            now.isoformat(),
            kept_back,
        ),
    )
    if kept_back:
        return id_, []
    overtaken = _let_go(db, "reorder_event")
    return id_, [message for each in [id_, *overtaken] for message in _sign(db, each)]


def release(db: sqlite3.Connection) -> list[Message]:
    """Return what is to be sent of all that was kept back and not dropped, oldest first."""
    ids = [*_let_go(db, "delay_event"), *_let_go(db, "reorder_event")]
    return [message for each in ids for message in _sign(db, each)]


def resend(db: sqlite3.Connection, *, id_: str) -> list[Message]:
    """
    Return an event to be sent again: the same id and bytes, signed now.

    :raises Refused: if there is no such event
    """
    if db.execute("SELECT 1 FROM psp_event WHERE id = ?", (id_,)).fetchone() is None:
        raise Refused(f"there is no event {id_!r}")
    return _sign(db, id_)


def listed(db: sqlite3.Connection, *, after: int) -> list[dict[str, Any]]:
    """List events in the order they were made, also those that were never sent, at most 200."""
    rows = db.execute(
        "SELECT number, body FROM psp_event WHERE number > ? ORDER BY number LIMIT 200", (after,)
    )
    return [{"number": row["number"], "event": json.loads(row["body"])} for row in rows]


def send(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Send messages in their order; return what each was answered, 0 where nobody answered."""
    answers: list[dict[str, Any]] = []
    for message in messages:
        if message.at_once:
            with ThreadPoolExecutor(message.copies) as pool:
                statuses = list(pool.map(_post, [message] * message.copies))
        else:
            statuses = [_post(message) for _ in range(message.copies)]
        answers += [
            {"event_id": message.event_id, "url": message.url, "status": each} for each in statuses
        ]
    return answers


def _let_go(db: sqlite3.Connection, behavior: str) -> list[str]:
    rows = db.execute(
        "SELECT id FROM psp_event WHERE kept_back = ? ORDER BY number", (behavior,)
    ).fetchall()
    db.execute("UPDATE psp_event SET kept_back = '' WHERE kept_back = ?", (behavior,))
    return [row["id"] for row in rows]


def _sign(db: sqlite3.Connection, id_: str) -> list[Message]:
    """Return an event's messages, one a subscriber."""
    event = db.execute("SELECT * FROM psp_event WHERE id = ?", (id_,)).fetchone()
    hooks = db.execute("SELECT * FROM hook ORDER BY id").fetchall()
    return [_message(db, event, hook) for hook in hooks]


def _message(db: sqlite3.Connection, event: sqlite3.Row, hook: sqlite3.Row) -> Message:
    """Sign an event for one subscriber, with what is to be wrong about it."""
    facts = {"event_id": event["id"], "type": event["type"], "object": event["object"]}
    body, timestamp = bytes(event["body"]), int(store.read_clock(db).timestamp())
    secrets: list[str] = json.loads(hook["secrets"])
    if control.take(db, behavior="two_secrets", facts=facts) is None:
        secrets = secrets[:1]
    if control.take(db, behavior="wrong_signature", facts=facts) is not None:
        secrets = [_write_secret(b"not a secret of this provider's!")]
    if (old := control.take(db, behavior="old_timestamp", facts=facts)) is not None:
        timestamp -= int(old.get("seconds", OLD_SECONDS))
    doubled = control.take(db, behavior="duplicate_event", facts=facts)
    signed = f"{event['id']}.{timestamp}.".encode() + body
    return Message(
        event_id=event["id"],
        url=hook["url"],
        headers={
            "Content-Type": "application/json",
            "webhook-id": event["id"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(_signature(each, signed) for each in secrets),
        },
        body=body,
        copies=1 if doubled is None else int(doubled.get("copies", 2)),
        at_once=doubled is not None and bool(doubled.get("at_once")),
    )


def _post(message: Message) -> int:
    # Subscriptions are to http on the loopback alone.
    request = urllib.request.Request(  # noqa: S310
        message.url, data=message.body, headers=dict(message.headers), method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=SEND_SECONDS_MAX) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def _signature(secret: str, signed: bytes) -> str:
    mac = hmac.digest(_read_secret(secret), signed, hashlib.sha256)
    return "v1," + base64.b64encode(mac).decode()


def _write_secret(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def _read_secret(text: str) -> bytes:
    """Return a secret's key; empty if the text is none."""
    try:
        return base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return b""
