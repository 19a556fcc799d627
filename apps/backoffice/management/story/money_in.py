"""Money in: statements, and what became of their lines."""

from typing import Any

from apps.approvals import queries as approval_queries
from apps.backoffice.management.story import statements
from apps.backoffice.management.story.client import StepFailed, until
from apps.backoffice.management.story.plot import (
    ADA_IBAN,
    BOB_IBAN,
    EUR,
    STARTS_WITH,
    Story,
    approve,
)
from apps.core.money import decimal_text, format_minor
from apps.ledger import queries as ledger
from apps.reconciliation.operations import OPENING_ACT


def import_statement(story: Story, name: str, content: bytes | None) -> None:
    story.teller.chapter("A bank statement is imported, twice")
    if content is None:
        name, content = "statement-1.xml", _own_statement(story)
    file = _import(story, name, content, key="statement-1")
    if file["state"] != "imported":
        _tell_refusal(story, name, file)
    story.teller.fact(f"{name} is imported")
    _accept_opening(story)
    _wait_for_matching(story)
    before = _fingerprint(story)
    again = _import(story, name, content, key="statement-1-again")
    story.check(
        f"{name} again changes nothing: the first import is the answer",
        holds=again["id"] == file["id"] and _fingerprint(story) == before,
    )
    _tell_lines(story)


def _own_statement(story: Story) -> bytes:
    ada, bob = story.customers
    return statements.make_statement(
        iban=story.iban,
        currency=EUR,
        out=story.folder / "statement-1.xml",
        database=story.bank.database,
        opening_minor=10_000_00,
        lines_in=[
            f"{ada.reference}:{decimal_text(STARTS_WITH, EUR)}:Ada Lovelace:{ADA_IBAN}",
            f"{bob.reference}:750.00:Bob Noyce:{BOB_IBAN}",
            "Invoice 4711, no reference:99.50:A stranger",
        ],
        lines_out=["Rent November:1200.00:Landlord"],
    )


def _import(story: Story, name: str, content: bytes, *, key: str) -> dict[str, Any]:
    sent = story.api.upload("/v1/bank_files", name=name, content=content, key=key)

    def read() -> dict[str, Any] | None:
        file = story.api.get(f"/v1/bank_files/{sent['id']}")
        return None if file["state"] == "received" else file

    return until(read, f"the import of {name}")


def _tell_refusal(story: Story, name: str, file: dict[str, Any]) -> None:
    lines = story.api.get("/v1/bank_lines")["data"]
    entries = story.api.get("/v1/journal-entries")["data"]
    if lines or entries:
        msg = f"{name} was refused and left {len(lines)} lines and {len(entries)} entries"
        raise StepFailed(msg)
    story.teller.note("Nothing was imported: no line, no journal entry.")
    msg = f"{name} is {file['state']}: {file['reason_code']}: {file['reason']}"
    raise StepFailed(msg)


def _accept_opening(story: Story) -> None:
    """What the account held before its first statement enters the books, by two people."""
    asked = [
        request
        for request in approval_queries.list_open_requests(organization_id=story.organization_id)
        if request.act == OPENING_ACT
    ]
    for request in asked:
        approve(story, request.id, reason="agrees with the bank's letter")
        story.teller.fact("The opening balance is in the books, accepted by a second person")
    if not asked:
        story.teller.note("The account held nothing before.")


def _wait_for_matching(story: Story) -> None:
    def settled() -> bool:
        lines = story.api.get("/v1/bank_lines", limit=100)["data"]
        return bool(lines) and all(line["state"] != "new" for line in lines)

    until(settled, "every line to be matched or put in suspense")


def _fingerprint(story: Story) -> tuple[object, ...]:
    """Return what a second import may not change."""
    lines = _lines(story)
    entries = story.api.get("/v1/journal-entries", limit=100)["data"]
    balance = ledger.trial_balance(organization_id=story.organization_id)
    return (
        tuple((line["id"], line["state"]) for line in lines),
        tuple(entry["id"] for entry in entries),
        tuple(balance),
    )


def _lines(story: Story) -> list[dict[str, Any]]:
    """Return the lines that post; one `known` from elsewhere (a notification) posts nothing."""
    page = story.api.get("/v1/bank_lines", limit=100)["data"]
    return [line for line in page if line["state"] != "known"]


def _tell_lines(story: Story) -> None:
    lines = _lines(story)
    story.teller.table(
        "What became of the lines",
        ["Booked", "Amount>", "Became"],
        [
            (
                line["booking_date"],
                format_minor(line["amount"], line["currency"]),
                {"matched": "matched", "in_suspense": "suspense"}.get(line["state"], line["state"]),
            )
            for line in reversed(lines)
        ],
    )


def fund_customers(story: Story) -> None:
    """Where the given statement paid no customer, the next day's does."""
    ada, bob = story.customers
    if story.balance(ada)["available"] >= STARTS_WITH:
        return
    story.teller.chapter("The next day's statement pays the customers by their references")
    last = story.api.get("/v1/bank_statements", limit=1)["data"][0]
    content = statements.make_statement(
        iban=story.iban,
        currency=EUR,
        out=story.folder / "statement-2.xml",
        database=story.bank.database,
        opening_minor=last["closing_balance"],
        lines_in=[
            f"{ada.reference}:{decimal_text(STARTS_WITH, EUR)}:Ada Lovelace:{ADA_IBAN}",
            f"{bob.reference}:750.00:Bob Noyce:{BOB_IBAN}",
        ],
    )
    file = _import(story, "statement-2.xml", content, key="statement-2")
    story.check("statement-2.xml is imported, and chains", holds=file["state"] == "imported")
    _wait_for_matching(story)
    until(lambda: story.balance(ada)["available"] >= STARTS_WITH, "the pay-in of Ada")
    for customer in story.customers:
        held = format_minor(story.balance(customer)["available"], EUR)
        story.teller.fact(f"{customer.name} has {held}")
