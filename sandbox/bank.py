"""
The bank: takes payment files, books them, and answers with reports and statements.

What is to be booked waits in `due` for its day. While the clock runs freely nothing waits: every
due day is booked at once, one statement a day, so a test need not wait for tomorrow.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sandbox import amounts, camt, control, pain001, pain002, store
from sandbox.entries import Detail, Entry, from_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from sandbox.pain001 import Payment, PaymentFile, Transfer

SATURDAY = 5


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the bank says on taking a file."""

    message_id: str
    is_duplicate: bool


def receive(
    db: sqlite3.Connection,
    *,
    content: bytes,
    day: dt.date | None = None,
    report_version: str = "10",
) -> Receipt:
    """
    Take a pain.001: answer it with a pain.002 and put its payments down for booking.

    `day` overrides the booking day, which else is the execution date, today at the earliest. A
    message id that came before is rejected with DU01 and moves nothing.

    :raises Unreadable: if the bytes are no pain.001
    """
    file = pain001.read(content)
    now = store.read_clock(db)
    known = db.execute("SELECT 1 FROM message WHERE message_id = ?", (file.message_id,)).fetchone()
    facts = {"msg_id": file.message_id, "iban": _debtor(file)}
    if known:
        verdict = pain002.Verdict(group_code="DU01")
    else:
        db.execute(
            "INSERT INTO message (message_id, sha256, received_at) VALUES (?, ?, ?)",
            (file.message_id, hashlib.sha256(content).hexdigest(), now.isoformat()),
        )
        if control.take(db, behavior="no_answer", facts=facts) is not None:
            return Receipt(message_id=file.message_id, is_duplicate=False)
        verdict = _judge(db, file)

    sequence = db.execute("SELECT count(*) AS n FROM answer").fetchone()["n"] + 1
    id_ = f"R{now:%Y%m%d}{sequence:08d}"
    body = pain002.report(file, verdict, id_=id_, created_at=now, version=report_version)
    _publish(db, kind="pain.002", body=body, number=facts["iban"], now=now, msg_id=file.message_id)
    for payment in file.payments:
        if verdict.accepts(payment):
            _schedule(
                db, file, payment, verdict, day=day or max(payment.execution_date, now.date())
            )
    return Receipt(message_id=file.message_id, is_duplicate=known is not None)


def deposit(
    db: sqlite3.Connection,
    *,
    number: str,
    currency: str,
    booked: Sequence[Detail],
    day: dt.date | None = None,
    owner: str = "",
) -> None:
    """Put incoming credits (or, below zero, debits) down for booking on an account."""
    _account(db, number=number, currency=currency, owner=owner)
    for detail in booked:
        is_credit = detail.amount_minor > 0
        entry = Entry(
            amount_minor=detail.amount_minor,
            family="RCDT" if is_credit else "ICDT",
            sub_family="ESCT",
            details=(detail,),
        )
        _put_due(db, number, currency, day or store.read_clock(db).date(), entry)


def set_opening(
    db: sqlite3.Connection, *, number: str, currency: str, amount_minor: int, owner: str = ""
) -> None:
    """Say what the account holds, whatever its last statement said."""
    _account(db, number=number, currency=currency, owner=owner)
    db.execute(
        "UPDATE account SET closing_minor = ? WHERE number = ? AND currency = ?",
        (amount_minor, number, currency),
    )


def advance(db: sqlite3.Connection) -> None:
    """Book everything whose day has come, one notification and one statement a day."""
    stopped = store.stopped_at(db)
    until = stopped.date().isoformat() if stopped else dt.date.max.isoformat()
    while True:
        row = db.execute(
            "SELECT number, currency, day FROM due WHERE day <= ? ORDER BY day, id", (until,)
        ).fetchone()
        if row is None:
            return
        waiting = db.execute(
            "SELECT id, entry FROM due WHERE number = ? AND currency = ? AND day = ? ORDER BY id",
            tuple(row),
        ).fetchall()
        entries = [
            replace(from_json(each["entry"]), servicer_reference=f"SB{each['id']:012d}")
            for each in waiting
        ]
        _book(db, row["number"], row["currency"], dt.date.fromisoformat(row["day"]), entries)
        db.execute("DELETE FROM due WHERE number = ? AND currency = ? AND day = ?", tuple(row))


def release_withheld(db: sqlite3.Connection) -> int:
    """Publish the statements that a gap kept back; return how many."""
    now = store.read_clock(db)
    rows = db.execute("SELECT id, kind, body, number FROM withheld ORDER BY id").fetchall()
    for row in rows:
        _insert_answer(db, row["kind"], row["body"], row["number"], now)
    db.execute("DELETE FROM withheld")
    return len(rows)


def _debtor(file: PaymentFile) -> str:
    return file.payments[0].debtor_account if file.payments else ""


def _judge(db: sqlite3.Connection, file: PaymentFile) -> pain002.Verdict:
    """Decide what is rejected: by request, or since the file's own sums are wrong."""
    facts = {"msg_id": file.message_id, "iban": _debtor(file)}
    if not file.payments or not file.adds_up:
        return pain002.Verdict(group_code="AM10")
    if options := control.take(db, behavior="reject", facts=facts, level="group"):
        return pain002.Verdict(group_code=options["code"])
    payments, transfers = {}, {}
    for payment in file.payments:
        of_payment = facts | {"payment_id": payment.payment_id, "iban": payment.debtor_account}
        if options := control.take(db, behavior="reject", facts=of_payment, level="payment"):
            payments[payment.payment_id] = options["code"]
        for transfer in payment.transfers:
            of_transfer = _facts(file, payment, transfer)
            if options := control.take(
                db, behavior="reject", facts=of_transfer, level="transaction"
            ):
                transfers[transfer.end_to_end_id] = options["code"]
    return pain002.Verdict(payment_codes=payments, transfer_codes=transfers)


def _facts(file: PaymentFile, payment: Payment, transfer: Transfer) -> dict[str, str]:
    return {
        "msg_id": file.message_id,
        "payment_id": payment.payment_id,
        "end_to_end_id": transfer.end_to_end_id,
        "iban": transfer.creditor_account,
        "amount": amounts.to_text(transfer.amount_minor, currency=transfer.currency),
    }


def _schedule(
    db: sqlite3.Connection,
    file: PaymentFile,
    payment: Payment,
    verdict: pain002.Verdict,
    *,
    day: dt.date,
) -> None:
    taken = [each for each in payment.transfers if each.end_to_end_id not in verdict.transfer_codes]
    if not taken:
        return
    number, currency = payment.debtor_account, taken[0].currency
    _account(db, number=number, currency=currency, owner=payment.debtor_name)
    details = [
        Detail(
            amount_minor=-each.amount_minor,
            end_to_end_id=each.end_to_end_id,
            instruction_id=each.instruction_id,
            counterparty_name=each.creditor_name,
            counterparty_account=each.creditor_account,
            text=each.text,
            reference=each.reference,
        )
        for each in taken
    ]
    groups = [details] if payment.is_booked_as_one else [[detail] for detail in details]
    for group in groups:
        entry = Entry(
            amount_minor=sum(detail.amount_minor for detail in group),
            family="ICDT",
            sub_family="ESCT",
            message_id=file.message_id,
            payment_id=payment.payment_id,
            details=tuple(group),
        )
        _put_due(db, number, currency, day, entry)
    for transfer, detail in zip(taken, details, strict=True):
        _schedule_return(db, file, payment, transfer, detail, day=day)


def _schedule_return(
    db: sqlite3.Connection,
    file: PaymentFile,
    payment: Payment,
    transfer: Transfer,
    detail: Detail,
    *,
    day: dt.date,
) -> None:
    facts = _facts(file, payment, transfer)
    options = control.take(db, behavior="return", facts=facts)
    if options is None:
        return
    fee = amounts.to_minor(str(options.get("fee", "0")), currency=transfer.currency)
    text = f"returned {options['code']}" + (f", less a fee of {options['fee']}" if fee else "")
    returned = replace(
        detail,
        amount_minor=transfer.amount_minor - fee,
        return_code=options["code"],
        return_text=text,
    )
    entry = Entry(
        amount_minor=returned.amount_minor,
        family="ICDT",
        sub_family="RRTN",
        message_id=file.message_id,
        payment_id=payment.payment_id,
        is_reversal=True,
        text=f"Return {options['code']}",
        details=(returned,),
    )
    return_day = _open_day(day, after=int(options.get("days", 1)))
    for _ in range(2 if options.get("twice") else 1):
        _put_due(db, payment.debtor_account, transfer.currency, return_day, entry)


def _open_day(day: dt.date, *, after: int) -> dt.date:
    """Return the weekday a number of weekdays later; the sandbox knows no holidays."""
    for _ in range(after):
        day += dt.timedelta(days=1)
        while day.weekday() >= SATURDAY:
            day += dt.timedelta(days=1)
    return day


def _account(db: sqlite3.Connection, *, number: str, currency: str, owner: str) -> None:
    db.execute(
        "INSERT OR IGNORE INTO account (number, currency, owner) VALUES (?, ?, ?)",
        (number, currency, owner),
    )
    if owner:
        db.execute(
            "UPDATE account SET owner = ? WHERE number = ? AND currency = ?",
            (owner, number, currency),
        )


def _put_due(
    db: sqlite3.Connection, number: str, currency: str, day: dt.date, entry: Entry
) -> None:
    # A bank does not book into a day whose statement it has already written and superseded.
    last_day = db.execute(
        "SELECT last_day FROM account WHERE number = ? AND currency = ?", (number, currency)
    ).fetchone()["last_day"]
    db.execute(
        "INSERT INTO due (number, currency, day, entry) VALUES (?, ?, ?, ?)",
        (number, currency, max(day.isoformat(), last_day), entry.to_json()),
    )


def _book(
    db: sqlite3.Connection, number: str, currency: str, day: dt.date, entries: list[Entry]
) -> None:
    facts = {"iban": number, "kind": "camt.053"}
    if control.take(db, behavior="statement_gap", facts=facts) is not None:
        unseen = Entry(
            amount_minor=amounts.to_minor("1", currency=currency),
            family="RCDT",
            sub_family="ESCT",
            text="Booked on a statement that did not arrive",
            servicer_reference=f"SBGAP{number[-4:]}{day:%Y%m%d}",
        )
        body = camt.statement(_close(db, number, currency, day, [unseen]))
        db.execute(
            "INSERT INTO withheld (kind, body, number) VALUES ('camt.053', ?, ?)", (body, number)
        )

    booked, now = _close(db, number, currency, day, entries), store.read_clock(db)
    _publish(db, kind="camt.054", body=camt.notification(booked), number=number, now=now)
    options = control.take(db, behavior="statement_wrong_sum", facts=facts)
    if options is not None:
        off_by = amounts.to_minor(str(options.get("by", "1")), currency=currency)
        booked = replace(booked, closing_minor=booked.closing_minor + off_by)
    _publish(db, kind="camt.053", body=camt.statement(booked), number=number, now=now)


def _close(
    db: sqlite3.Connection, number: str, currency: str, day: dt.date, entries: list[Entry]
) -> camt.Booked:
    """Close the day on the account: the next opening balance is this closing balance."""
    row = db.execute(
        "SELECT * FROM account WHERE number = ? AND currency = ?", (number, currency)
    ).fetchone()
    booked = camt.Booked(
        account=camt.Account(number=number, currency=currency, owner=row["owner"]),
        number=row["statements"] + 1,
        day=day,
        opening_minor=row["closing_minor"],
        closing_minor=row["closing_minor"] + sum(entry.amount_minor for entry in entries),
        entries=entries,
        created_at=store.read_clock(db),
    )
    db.execute(
        "UPDATE account SET closing_minor = ?, statements = ?, last_day = max(last_day, ?)"
        " WHERE number = ? AND currency = ?",
        (booked.closing_minor, booked.number, day.isoformat(), number, currency),
    )
    return booked


def _publish(
    db: sqlite3.Connection,
    *,
    kind: str,
    body: bytes,
    number: str,
    now: dt.datetime,
    msg_id: str = "",
) -> None:
    _insert_answer(db, kind, body, number, now)
    facts = {"iban": number, "kind": kind, "msg_id": msg_id}
    if control.take(db, behavior="duplicate_file", facts=facts) is not None:
        _insert_answer(db, kind, body, number, now)


def _insert_answer(
    db: sqlite3.Connection, kind: str, body: bytes, number: str, now: dt.datetime
) -> None:
    db.execute(
        "INSERT INTO answer (kind, sha256, body, made_at, number) VALUES (?, ?, ?, ?, ?)",
        (kind, hashlib.sha256(body).hexdigest(), body, now.isoformat(), number),
    )
