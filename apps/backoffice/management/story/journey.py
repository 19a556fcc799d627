"""The chapters, in order: each says what it did, or ends the story when it did not go so."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx

from apps.approvals import operations as approvals
from apps.approvals import queries as approval_queries
from apps.approvals.states import Verdict
from apps.backoffice.management.story import cast as casting
from apps.backoffice.management.story import proof, statements
from apps.backoffice.management.story.cast import Cast
from apps.backoffice.management.story.client import Api, StepFailed, until
from apps.backoffice.management.story.processes import Bank
from apps.backoffice.management.story.receiver import Received
from apps.backoffice.management.story.teller import Teller
from apps.banking import operations as banking
from apps.banking.models import BankAccount
from apps.banking.operations import Holder
from apps.core import clock
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import decode_id, encode_id
from apps.core.money import decimal_text, format_minor
from apps.ledger import queries as ledger
from apps.payouts import operations as payouts
from apps.payouts import queries as payout_queries
from apps.reconciliation.operations import OPENING_ACT

EUR: Final = "EUR"
ADA_IBAN: Final = "FI2112345600000785"
BOB_IBAN: Final = "NL91ABNA0417164300"
PAID_OUT: Final = 1_250_00
COMES_BACK: Final = 1_100_00
STARTS_WITH: Final = 5_000_00


@dataclass
class Customer:
    """One customer, as the story needs it."""

    id: str
    name: str
    reference: str
    account: str
    iban: str
    destination: str = ""


@dataclass
class Story:
    """What the chapters hand on."""

    teller: Teller
    api: Api
    cast: Cast
    received: Received
    hook_url: str
    bank: Bank
    folder: Path
    customers: list[Customer] = field(default_factory=list)
    account: BankAccount | None = None
    iban: str = ""

    @property
    def organization_id(self) -> UUID:
        return self.cast.organization_id

    def balance(self, customer: Customer) -> dict[str, Any]:
        return self.api.get(f"/v1/ledger-accounts/{customer.account}")

    def check(self, told: str, *, holds: bool) -> None:
        """Say what was checked; end the story if it does not hold."""
        if not holds:
            raise StepFailed(told)
        self.teller.fact(told)


def tell(story: Story, *, statement: Path | None) -> None:
    """Tell the whole story; a statement that the import refuses ends it there."""
    given = _given_statement(statement)
    try:
        _opening(story, *given)
        _statement(story, *given)
        _funds(story)
        _transfers(story)
        _payouts(story)
        _events(story)
    finally:
        story.api.close()
    proof.prove(story.teller, organization_id=story.organization_id, folder=story.folder)


def _given_statement(path: Path | None) -> tuple[str, bytes | None]:
    if path is None:
        return "our own", None
    if not path.is_file():
        msg = f"there is no file {path}"
        raise StepFailed(msg)
    return path.name, path.read_bytes()


def _opening(story: Story, name: str, content: bytes | None) -> None:
    teller, api = story.teller, story.api
    teller.chapter(
        "An organisation, its key, its customers, its bank account, its webhook endpoint"
    )
    me = api.get("/v1/me")
    teller.fact(f"{me['organization']['name']}, {me['organization']['id']}, with an API key")
    for who, iban in (("Ada Lovelace", ADA_IBAN), ("Bob Noyce", BOB_IBAN)):
        story.customers.append(_customer(story, who, iban))
    found = statements.account_of(content, name=name) if content is not None else None
    identification = found.identification if found else statements.OWN_IBAN
    currency = found.currency if found else EUR
    story.iban = identification
    story.account = casting.add_bank_account(
        organization_id=story.organization_id,
        identification=identification,
        currency=currency,
        holder=Holder(name="Northwind Trading", town="Berlin", country="DE"),
        now=clock.now(),
    )
    _forget_earlier_files(story, story.account)
    teller.fact(f"Bank account {encode_id('ba', story.account.id)} in {currency}")
    endpoint = api.post(
        "/v1/webhook_endpoints",
        {"url": story.hook_url, "event_types": ["*"], "description": "the story's receiver"},
        key="endpoint",
    )
    story.received.secret = endpoint["secret"]
    teller.fact(f"Webhook endpoint {endpoint['id']}, secret shown once")


def _forget_earlier_files(story: Story, account: BankAccount) -> None:
    """A bank that told the story of this account before is not to tell it again."""
    last = 0
    while files := httpx.get(f"{story.bank.url}/bank/files?after={last}", timeout=10).json()[
        "files"
    ]:
        last = files[-1]["id"]
    banking.advance_connection(
        organization_id=story.organization_id, connection_id=account.connection_id, up_to=last
    )


def _customer(story: Story, name: str, iban: str) -> Customer:
    first = name.partition(" ")[0].lower()
    made = story.api.post(
        "/v1/customers",
        {"name": name, "email": f"{first}@example.com", "currencies": [EUR]},
        key=f"customer-{first}",
    )
    reference = story.api.post(
        "/v1/virtual_references",
        {"customer": made["id"], "currency": EUR},
        key=f"reference-{first}",
    )
    page = story.api.get("/v1/ledger-accounts", code=f"customers:{made['id']}:available:{EUR}")
    [account] = page["data"]
    story.teller.fact(f"{name}, {made['id']}, is paid under {reference['reference']}")
    return Customer(made["id"], name, reference["reference"], account["id"], iban)


def _statement(story: Story, name: str, content: bytes | None) -> None:
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
        _approve(story, request.id, reason="agrees with the bank's letter")
        story.teller.fact("The opening balance is in the books, accepted by a second person")
    if not asked:
        story.teller.note("The account held nothing before.")


def _approve(story: Story, request_id: UUID, *, reason: str) -> None:
    approvals.decide_approval(
        organization_id=story.organization_id,
        request_id=request_id,
        verdict=Verdict.APPROVE,
        reason=reason,
        idempotency_key=f"approve-{request_id}",
        actor=Actor.staff(story.cast.approver.id),
        now=clock.now(),
    )


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


def _funds(story: Story) -> None:
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


def _transfers(story: Story) -> None:
    teller, api = story.teller, story.api
    ada, bob = story.customers
    teller.chapter("The customers transfer to each other")
    before = story.balance(bob)["available"]
    body = {
        "debit_account": ada.account,
        "credit_account": bob.account,
        "amount": 300_00,
        "currency": EUR,
        "description": "Half of the boat",
    }
    first = api.post("/v1/transfers", body, key="transfer-1")
    again = api.post("/v1/transfers", body, key="transfer-1")
    story.check(
        f"300.00 EUR from Ada to Bob, {first['id']}; sent twice, moved once",
        holds=first["id"] == again["id"] and story.balance(bob)["available"] == before + 300_00,
    )
    back = {**body, "debit_account": bob.account, "credit_account": ada.account, "amount": 25_00}
    batch = api.post(
        "/v1/transfers/batch",
        {"mode": "independent", "transfers": [back, back, {**back, "amount": 10**12}]},
        key="batch-1",
    )
    story.check(
        "A batch of three: two posted, the third refused for funds, each with its own answer",
        holds=(batch["posted"], batch["refused"]) == (2, 1)
        and batch["outcomes"][2]["code"] == "insufficient_funds",
    )


def _payouts(story: Story) -> None:
    teller = story.teller
    ada, bob = story.customers
    teller.chapter("Two payouts: reserved, approved by a second person, sent at the cut-off")
    # The clients of this story pay each other's rent: both draw on Ada's money.
    for customer in (ada, bob):
        made = story.api.post(
            "/v1/destinations",
            {
                "customer": ada.id,
                "iban": customer.iban,
                "holder_name": customer.name,
                "currency": EUR,
            },
            key=f"destination-{customer.iban}",
        )
        customer.destination = made["id"]
        teller.fact(f"Destination {made['id']} of {customer.name}, shown as {made['iban']}")
    available = story.balance(ada)["available"]
    settles = _request(story, ada, PAID_OUT)
    returns = _request(story, bob, COMES_BACK)
    story.check(
        f"{format_minor(PAID_OUT + COMES_BACK, EUR)} are reserved",
        holds=story.balance(ada)["available"] == available - PAID_OUT - COMES_BACK,
    )
    for payout in (settles, returns):
        _approve_payout(story, payout)
    _ask_bank_to_return(story, returns)
    _send(story, settles, returns)
    _await_bank(story, settles, returns, available=available)


def _request(story: Story, customer: Customer, amount: int) -> str:
    made = story.api.post(
        "/v1/payouts",
        {
            "customer": story.customers[0].id,
            "amount": amount,
            "currency": EUR,
            "destination": customer.destination,
            "remittance": f"Payout to {customer.name}",
        },
        key=f"payout-{customer.iban}",
    )
    story.teller.fact(f"Payout {made['id']} of {format_minor(amount, EUR)}: {made['state']}")
    return str(made["id"])


def _approve_payout(story: Story, payout: str) -> None:
    payout_id = decode_id("po", payout)

    def waiting() -> UUID | None:
        open_requests = approval_queries.list_open_requests(organization_id=story.organization_id)
        return next((r.id for r in open_requests if r.subject_id == payout_id), None)

    request_id = until(waiting, f"the approval request of {payout}")
    try:
        approvals.decide_approval(
            organization_id=story.organization_id,
            request_id=request_id,
            verdict=Verdict.APPROVE,
            reason="my own request",
            idempotency_key=f"own-{request_id}",
            actor=Actor.staff(story.cast.maker.id),
            now=clock.now(),
        )
    except Refusal as refusal:
        story.teller.fact(f"Its maker may not approve it: {refusal.code}")
    else:
        msg = f"the maker of {payout} approved it"
        raise StepFailed(msg)
    _approve(story, request_id, reason="checked against the contract")
    story.teller.fact(f"{payout} is approved by a second person")


def _ask_bank_to_return(story: Story, payout: str) -> None:
    """The sandbox bank is told to send the second payment back: account closed."""
    answer = httpx.post(
        f"{story.bank.url}/control",
        json={
            "behaviour": "return",
            "match": {"iban": BOB_IBAN, "amount": decimal_text(COMES_BACK, EUR)},
            "times": 1,
            "options": {"code": "AC04"},
        },
        timeout=10,
    )
    answer.raise_for_status()
    story.teller.note(f"The bank will send {payout} back: AC04, account closed.")


def _send(story: Story, *wanted: str) -> None:
    def scheduled() -> bool:
        return all(story.api.get(f"/v1/payouts/{p}")["state"] == "scheduled" for p in wanted)

    until(scheduled, "both payouts to be scheduled")
    day = story.api.get(f"/v1/payouts/{wanted[0]}")["execution_date"]
    keys = [
        key
        for key in payout_queries.list_batch_keys(until=clock.now().date() + timedelta(days=30))
        if key.organization_id == story.organization_id
    ]
    for key in keys:
        batch = payouts.freeze_batch(
            key=key, actor=Actor.staff(story.cast.maker.id), now=clock.now()
        )
        if batch is None:
            msg = "nothing was fit to go into the batch"
            raise StepFailed(msg)
        total = format_minor(batch.total_minor, EUR)
        story.teller.fact(
            f"Batch {encode_id('pb', batch.id)} for {day} is frozen before its cut-off:"
            f" {batch.attempt_count} payments, {total}"
        )
        _release(story, batch.id)

    def submitted() -> bool:
        states = [story.api.get(f"/v1/payouts/{p}")["state"] for p in wanted]
        return all(state not in {"scheduled", "batched"} for state in states)

    until(submitted, "the bank to take the file")
    story.teller.fact("The pain.001.001.09 file validates against the ISO schema; the bank has it")


def _release(story: Story, batch_id: UUID) -> None:
    batch = payout_queries.get_batch(organization_id=story.organization_id, batch_id=batch_id)
    if batch.state != "frozen":
        return
    payouts.release_batch(
        organization_id=story.organization_id,
        batch_id=batch_id,
        actor=Actor.staff(story.cast.approver.id),
        now=clock.now(),
    )
    story.teller.fact("It is released by the person who did not freeze it")


def _await_bank(story: Story, settles: str, returns: str, *, available: int) -> None:
    story.teller.chapter("The bank answers: one is settled, one comes back")

    def state(payout: str, wanted: str) -> bool:
        return bool(story.api.get(f"/v1/payouts/{payout}")["state"] == wanted)

    until(lambda: state(settles, "settled"), f"{settles} to be settled by a bank line", 120)
    story.teller.fact(f"{settles} is settled: the bank's statement shows it")
    until(lambda: state(returns, "returned"), f"{returns} to come back", 120)
    failure = story.api.get(f"/v1/payouts/{returns}")["failure"]
    story.teller.fact(f"{returns} is returned: {failure['code']}, {failure['bank_code']}")
    ada = story.customers[0]
    story.check(
        f"{format_minor(COMES_BACK, EUR)} are available again; {format_minor(PAID_OUT, EUR)} went",
        holds=story.balance(ada)["available"] == available - PAID_OUT,
    )


def _events(story: Story) -> None:
    story.teller.chapter("Every step was told to the webhook endpoint, signed")

    def published() -> dict[str, str]:
        found: dict[str, str] = {}
        cursor = None
        while True:
            page = story.api.get("/v1/events", limit=100, **({"after": cursor} if cursor else {}))
            found |= {event["id"]: event["type"] for event in page["data"]}
            cursor = page["next"]
            if not page["has_more"]:
                return found

    def complete() -> bool:
        with story.received.lock:
            have = set(story.received.events)
        wanted = published()
        # The endpoint gets what happened after it was made.
        return {id_ for id_ in wanted if id_ > min(have, default="")} <= have

    until(lambda: bool(story.received.events) and complete(), "every event to be delivered", 120)
    counts = story.received.types()
    story.teller.table(
        "Events received", ["Type", "Count>"], [(t, str(n)) for t, n in sorted(counts.items())]
    )
    for type_ in ("payment.received", "payout.settled", "payout.returned", "journal_entry.posted"):
        story.check(f"{type_} was delivered", holds=counts[type_] > 0)
    story.check(
        f"{story.received.deliveries} deliveries, every signature right (Standard Webhooks)",
        holds=story.received.bad_signatures == 0,
    )
