"""The sandbox on the command line: `python -m sandbox serve | answer | statement`."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox import amounts, bank, control, iso_xml, pain001, store
from sandbox.entries import Detail
from sandbox.server import Server

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 with a line on stderr when what it was given is wrong."""
    arguments = _parser().parse_args(argv)
    store.prepare(arguments.database)
    try:
        status: int = arguments.run(arguments)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"sandbox: {error}\n")
        return 2
    return status


def _serve(arguments: argparse.Namespace) -> int:
    server = Server((arguments.host, arguments.port), database=arguments.database)
    sys.stdout.write(f"sandbox bank on http://{arguments.host}:{server.server_port}\n")
    sys.stdout.flush()
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        server.is_closing.set()
    finally:
        server.server_close()
    return 0


def _answer(arguments: argparse.Namespace) -> int:
    content = arguments.file.read_bytes()
    file = pain001.read(content)
    with store.act(arguments.database) as db:
        last = _last_answer(db)
        if arguments.opening is not None:
            for payment in file.payments:
                currency = payment.transfers[0].currency
                bank.set_opening(
                    db,
                    number=payment.debtor_account,
                    currency=currency,
                    amount_minor=amounts.to_minor(arguments.opening, currency=currency),
                )
        _add_asked_behaviors(db, file, arguments)
        bank.receive(
            db, content=content, day=arguments.date, report_version=arguments.pain002_version
        )
        bank.advance(db)
        answers = db.execute("SELECT * FROM answer WHERE id > ? ORDER BY id", (last,)).fetchall()
    _write_answers(answers, arguments.out)
    return 0


def _add_asked_behaviors(
    db: sqlite3.Connection, file: pain001.PaymentFile, arguments: argparse.Namespace
) -> None:
    known = {each.end_to_end_id for payment in file.payments for each in payment.transfers}
    of_file = {"msg_id": file.message_id}

    def add(behavior: str, match: dict[str, str], **options: Any) -> None:  # noqa: ANN401
        control.add(db, behavior=behavior, match=of_file | match, times=1, options=options)

    for behavior, asked in (("reject", arguments.reject), ("return", arguments.returned)):
        for item in asked:
            end_to_end_id, _, code = item.rpartition("=")
            code, _, fee = code.partition(":")
            if end_to_end_id not in known:
                raise iso_xml.Unreadable(f"the file has no EndToEndId {end_to_end_id!r}")
            options = {"fee": fee} if fee else {}
            if behavior == "return":
                options |= {"days": arguments.return_days, "twice": arguments.return_twice}
            add(behavior, {"end_to_end_id": end_to_end_id}, code=code, **options)
    if arguments.reject_group:
        add("reject", {}, level="group", code=arguments.reject_group)
    if arguments.reject_payment:
        add("reject", {}, level="payment", code=arguments.reject_payment)


def _statement(arguments: argparse.Namespace) -> int:
    with store.act(arguments.database) as db:
        last = _last_answer(db)
        currency = arguments.currency
        if arguments.opening is not None:
            bank.set_opening(
                db,
                number=arguments.iban,
                currency=currency,
                amount_minor=amounts.to_minor(arguments.opening, currency=currency),
                owner=arguments.owner,
            )
        details = [_detail(item, currency=currency, sign=1) for item in arguments.credit]
        details += [_detail(item, currency=currency, sign=-1) for item in arguments.debit]
        bank.deposit(
            db,
            number=arguments.iban,
            currency=currency,
            booked=details,
            day=arguments.date,
            owner=arguments.owner,
        )
        bank.advance(db)
        answers = db.execute(
            "SELECT * FROM answer WHERE id > ? AND kind = 'camt.053' ORDER BY id", (last,)
        ).fetchall()
    _write_answers(answers, arguments.out)
    return 0


def _detail(item: str, *, currency: str, sign: int) -> Detail:
    """Read `reference:amount:name[:sender's IBAN]`; a reference that is not RF… is free text."""
    reference, amount, name, sender, *_ = [*item.split(":"), "", "", "", ""]
    is_structured = reference.startswith("RF") and reference.isalnum()
    return Detail(
        amount_minor=sign * amounts.to_minor(amount, currency=currency),
        counterparty_name=name,
        counterparty_account=sender,
        reference=reference if is_structured else "",
        text="" if is_structured else reference,
    )


def _last_answer(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(id), 0) AS id FROM answer").fetchone()["id"])


def _write_answers(answers: Sequence[sqlite3.Row], out: Path) -> None:
    """Write each answer to a file, and a line of JSON about it to stdout."""
    is_one_file = out.suffix == ".xml"
    (out.parent if is_one_file else out).mkdir(parents=True, exist_ok=True)
    for place, answer in enumerate(answers, start=1):
        path = out if is_one_file else out / f"{answer['id']:06d}-{place:02d}-{answer['kind']}.xml"
        path.write_bytes(answer["body"])
        line = {"kind": answer["kind"], "path": str(path), "sha256": answer["sha256"]}
        sys.stdout.write(json.dumps(line | _balances(answer["body"])) + "\n")


def _balances(body: bytes) -> dict[str, str]:
    statements = iso_xml.find_all(iso_xml.parse(body), "BkToCstmrStmt/Stmt")
    found = {}
    for balance in (each for report in statements for each in iso_xml.find_all(report, "Bal")):
        sign = "-" if iso_xml.text_of(balance, "CdtDbtInd") == "DBIT" else ""
        code = iso_xml.text_of(balance, "Tp/CdOrPrtry/Cd")
        name = "opening" if code == "OPBD" else "closing"
        found[name] = sign + iso_xml.text_of(balance, "Amt")
        found["date"] = iso_xml.text_of(balance, "Dt/Dt")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description=__doc__)
    parser.add_argument("--database", type=Path, default=store.default_path())
    commands = parser.add_subparsers(required=True)

    serve = commands.add_parser("serve", help="answer over HTTP")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8010)
    serve.set_defaults(run=_serve)

    answer = commands.add_parser("answer", help="answer one pain.001 file")
    answer.add_argument("file", type=Path)
    answer.add_argument("--out", type=Path, required=True, help="folder for the answers")
    answer.add_argument("--reject", action="append", default=[], metavar="E2E=CODE")
    answer.add_argument("--reject-group", default="", metavar="CODE")
    answer.add_argument("--reject-payment", default="", metavar="CODE")
    answer.add_argument(
        "--return", dest="returned", action="append", default=[], metavar="E2E=CODE[:FEE]"
    )
    answer.add_argument("--return-days", type=int, default=1, help="weekdays after the debit")
    answer.add_argument("--return-twice", action="store_true")
    answer.add_argument("--opening", help="what the account holds; else the chain goes on")
    answer.add_argument("--date", type=dt.date.fromisoformat, help="booking day")
    answer.add_argument("--pain002-version", choices=["03", "10"], default="10")
    answer.set_defaults(run=_answer)

    statement = commands.add_parser("statement", help="make a statement of incoming credits")
    statement.add_argument("--iban", required=True)
    statement.add_argument("--currency", default="EUR")
    statement.add_argument("--owner", default="")
    statement.add_argument("--opening", help="what the account holds; else the chain goes on")
    statement.add_argument(
        "--credit", action="append", default=[], metavar="REF:AMOUNT:NAME[:IBAN]"
    )
    statement.add_argument("--debit", action="append", default=[], metavar="REF:AMOUNT:NAME[:IBAN]")
    statement.add_argument("--date", type=dt.date.fromisoformat, help="booking day")
    statement.add_argument("--out", type=Path, required=True, help="an .xml file, or a folder")
    statement.set_defaults(run=_statement)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
