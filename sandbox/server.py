"""The sandbox over HTTP, on the loopback only."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from sandbox import amounts, bank, control, iso_xml, pain001, psp, store
from sandbox.entries import Detail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Reply = tuple[int, Any]

SILENCE_SECONDS = 30.0


class BadRequest(ValueError):
    """The request is not one that the sandbox understands."""


class Silence(Exception):
    """The bank takes the call and never answers."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Server(ThreadingHTTPServer):
    """One thread a request; the state is in SQLite and nowhere else."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], *, database: Path) -> None:
        if address[0] not in psp.LOOPBACK:
            raise BadRequest("the sandbox listens on the loopback only")
        super().__init__(address, Handler)
        self.database = database
        self.is_closing = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Finds the route, runs it, and writes what it answers."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answer a read."""
        self._answer(GET, b"")

    def do_POST(self) -> None:
        """Answer an act."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > iso_xml.SIZE_MAX:
            self._write(413, {"error": "the body is too large"})
            self.close_connection = True
            return
        self._answer(POST, self.rfile.read(length))

    def _answer(self, routes: Routes, content: bytes) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        route = _not_found
        for pattern, candidate in routes.items():
            if match := re.fullmatch(pattern, url.path):
                route, query = candidate, query | match.groupdict()
        try:
            status, answer = route(database=self.server.database, content=content, query=query)
        except Silence as silence:
            self.server.is_closing.wait(silence.seconds)
            self.close_connection = True
        except KeyError as error:
            self._write(400, {"error": f"{error} is missing"})
        except ValueError as error:
            self._write(400, {"error": str(error)})
        else:
            self._write(status, answer)

    def _write(self, status: int, answer: Any) -> None:  # noqa: ANN401  (bytes, or any JSON)
        is_file = isinstance(answer, bytes)
        body = answer if is_file else json.dumps(answer).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/xml" if is_file else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _not_found(**_: object) -> Reply:
    return 404, {"error": "no such resource"}


def _health(**_: object) -> Reply:
    return 200, {"status": "ok"}


def _take_file(*, database: Path, content: bytes, **_: object) -> Reply:
    file = pain001.read(content)
    facts = {"msg_id": file.message_id}
    with store.act(database) as db:
        before = control.take(db, behavior="timeout_before", facts=facts)
    if before is not None:
        raise Silence(float(before.get("seconds", SILENCE_SECONDS)))
    with store.act(database) as db:
        receipt = bank.receive(db, content=content)
        bank.advance(db)
        after = control.take(db, behavior="timeout_after", facts=facts)
    if after is not None:
        raise Silence(float(after.get("seconds", SILENCE_SECONDS)))
    return 202, {"msg_id": receipt.message_id, "duplicate": receipt.is_duplicate}


def _list_answers(*, database: Path, query: dict[str, str], **_: object) -> Reply:
    after = int(query.get("after", "0"))
    # A bank shows a client its own accounts' files only; without the filter, everybody's.
    wanted = [number for number in query.get("iban", "").split(",") if number]
    with store.act(database) as db:
        bank.advance(db)
        rows = db.execute(
            "SELECT id, kind, sha256, made_at FROM answer WHERE id > ?"
            " AND (? = '[]' OR number IN (SELECT value FROM json_each(?))) ORDER BY id LIMIT 200",
            (after, json.dumps(wanted), json.dumps(wanted)),
        ).fetchall()
    return 200, {"files": [dict(row) for row in rows]}


def _read_answer(*, database: Path, query: dict[str, str], **_: object) -> Reply:
    with store.act(database) as db:
        row = db.execute("SELECT body FROM answer WHERE id = ?", (int(query["id"]),)).fetchone()
    return (200, bytes(row["body"])) if row else (404, {"error": "no such file"})


def _read_message(*, database: Path, query: dict[str, str], **_: object) -> Reply:
    with store.act(database) as db:
        row = db.execute(
            "SELECT message_id AS msg_id, sha256, received_at FROM message WHERE message_id = ?",
            (query["id"],),
        ).fetchone()
    return (200, dict(row)) if row else (404, {"error": "the bank has no such message"})


def _take_credit(*, database: Path, content: bytes, **_: object) -> Reply:
    body = _json(content)
    currency = str(body.get("currency", "EUR"))
    detail = Detail(
        amount_minor=amounts.to_minor(str(body["amount"]), currency=currency),
        counterparty_name=str(body.get("name", "")),
        counterparty_account=str(body.get("sender_iban", "")),
        reference=str(body.get("reference", "")),
        text=str(body.get("text", "")),
    )
    with store.act(database) as db:
        bank.deposit(db, number=str(body["iban"]), currency=currency, booked=[detail])
        bank.advance(db)
    return 202, {}


def _release(*, database: Path, **_: object) -> Reply:
    with store.act(database) as db:
        return 200, {"released": bank.release_withheld(db)}


def _subscribe(*, database: Path, content: bytes, **_: object) -> Reply:
    body = _json(content)
    with store.act(database) as db:
        made = psp.subscribe(db, url=str(body["url"]), secrets=_texts(body, "secrets"))
    return 201, made


def _make_event(*, database: Path, content: bytes, **_: object) -> Reply:
    body = _json(content)
    data = body.get("data", {})
    if not isinstance(data, dict):
        raise BadRequest("data is a JSON object")
    with store.act(database) as db:
        id_, messages = psp.make_event(
            db, type_=str(body["type"]), data=data, id_=str(body.get("id", ""))
        )
    return 202, {"id": id_, "sent": psp.send(messages)}


def _list_events(*, database: Path, query: dict[str, str], **_: object) -> Reply:
    with store.act(database) as db:
        return 200, {"events": psp.listed(db, after=int(query.get("after", "0")))}


def _release_events(*, database: Path, **_: object) -> Reply:
    with store.act(database) as db:
        messages = psp.release(db)
    return 202, {"sent": psp.send(messages)}


def _resend_event(*, database: Path, content: bytes, **_: object) -> Reply:
    with store.act(database) as db:
        messages = psp.resend(db, id_=str(_json(content)["id"]))
    return 202, {"sent": psp.send(messages)}


def _set_clock(*, database: Path, content: bytes, **_: object) -> Reply:
    given = _json(content).get("now")
    now = dt.datetime.fromisoformat(str(given)) if given is not None else None
    if now is not None and now.tzinfo is None:
        raise BadRequest("now needs an offset")
    with store.act(database) as db:
        store.set_clock(db, now=now)
        bank.advance(db)
        return 200, {"now": store.read_clock(db).isoformat(), "stopped": now is not None}


def _add_behavior(*, database: Path, content: bytes, **_: object) -> Reply:
    body = _json(content)
    if unknown := set(body) - {"match", "behaviour", "times", "options"}:
        raise BadRequest(f"not known: {', '.join(sorted(unknown))}")
    times = body.get("times", 1)
    if times is not None and (type(times) is not int or times < 1):
        raise BadRequest("times is a positive number, or null for always")
    with store.act(database) as db:
        id_ = control.add(
            db,
            behavior=str(body.get("behaviour", "")),
            match=body.get("match") or {},
            times=times,
            options=body.get("options") or {},
        )
    return 201, {"id": id_}


def _list_behaviors(*, database: Path, **_: object) -> Reply:
    with store.act(database) as db:
        return 200, {"behaviours": control.listed(db)}


def _clear_behaviors(*, database: Path, **_: object) -> Reply:
    with store.act(database) as db:
        control.clear(db)
    return 200, {}


def _texts(body: dict[str, Any], name: str) -> list[str]:
    found = body.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise BadRequest(f"{name} is a list of texts")
    return found


def _json(content: bytes) -> dict[str, Any]:
    body = json.loads(content or b"{}")
    if not isinstance(body, dict):
        raise BadRequest("the body is a JSON object")
    return body


Routes = dict[str, "Callable[..., Reply]"]

GET: Routes = {
    "/health": _health,
    "/bank/files": _list_answers,
    r"/bank/files/(?P<id>[0-9]{1,18})": _read_answer,
    r"/bank/messages/(?P<id>[^/]{1,70})": _read_message,
    "/psp/events": _list_events,
    "/control": _list_behaviors,
}
POST: Routes = {
    "/bank/files": _take_file,
    "/bank/credits": _take_credit,
    "/bank/release": _release,
    "/psp/hooks": _subscribe,
    "/psp/events": _make_event,
    "/psp/events/release": _release_events,
    "/psp/events/resend": _resend_event,
    "/clock": _set_clock,
    "/control": _add_behavior,
    "/control/clear": _clear_behaviors,
}
