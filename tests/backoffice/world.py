"""The house in full use, by the operations alone."""

import random
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from apps.accounts import operations as accounts
from apps.approvals import operations as approvals
from apps.backoffice import operations as backoffice
from apps.banking import operations as banking
from apps.banking.models import LineQueue
from apps.core import clock, outbox, transactions, work
from apps.core.ids import encode_id, new_id
from apps.core.models import JobRun
from apps.core.money import Money
from apps.ledger import queries as books
from apps.ledger.operations import EntryRequest
from apps.ledger.rules import Leg
from apps.payouts import operations as payouts
from apps.payouts import queries as payout_queries
from apps.payouts.operations import PayoutDetails
from apps.payouts.queries import BatchKey
from apps.reconciliation import operations as reconciliation
from apps.webhooks import operations as webhooks
from apps.webhooks import tasks as webhook_tasks
from apps.webhooks.operations import EndpointTerms
from apps.webhooks.rules import signing
from apps.webhooks.rules.inbound import Reading
from apps.webhooks.rules.retries import Attempt, Outcome
from tests.backoffice.house import (
    CONTACT_EMAIL,
    CONTACT_NAME,
    JOB,
    NAMES,
    OUR_IBAN,
    House,
    add_customer,
    make_house,
)
from tests.banking.statements import Entry, Made, camt053


def build_lively(*, days: int = 30, seed: int = 7) -> House:
    """Make the house with payouts at each step of their life, and webhooks about them."""
    chance = random.Random(seed)
    now = clock.now()
    house = make_house(now - timedelta(days=days + 3))
    contacts(house, now)
    endpoints(house)
    for number in range(len(NAMES)):
        add_customer(house, number, now - timedelta(days=days + 3))
    import_day(
        house,
        (now - timedelta(days=days + 1)).replace(hour=6, minute=30),
        [Entry(amount=5_000_00, reference=one) for one in house.references],
    )
    for back in range(days, 0, -1):
        moment = (now - timedelta(days=back)).replace(hour=6, minute=30)
        debits = _pay_out_of(house, chance, moment) if back % 3 == 0 else []
        import_day(house, moment, [*_credits(house, chance), *debits])
    open_payouts(house, now)
    ask_for_goodwill(house, now)
    deliver(chance)
    hear_from_a_provider(house, now)
    return house


# --- Money in ---------------------------------------------------------------------------------


def _credits(house: House, chance: random.Random) -> list[Entry]:
    lines = [
        Entry(
            amount=chance.randint(20_00, 4_800_00),
            reference=chance.choice(house.references),
            name=chance.choice(("B. Albers", "C. Moreau", "D. Novak")),
        )
        for _ in range(chance.randint(2, 5))
    ]
    if chance.random() < 0.3:
        lines.append(
            Entry(
                amount=chance.randint(15_00, 900_00),
                text=chance.choice(("thank you", "invoice 4711", "rent march")),
                name="E. Stranger",
            )
        )
    return lines


def import_day(house: House, now: datetime, lines: list[Entry]) -> None:
    """Import one day's statement, and match its lines as the workers do."""
    house.statements += 1
    day: date = now.date()
    made = Made(
        entries=tuple(_on(line, day, n, house.statements) for n, line in enumerate(lines)),
        opening=house.closing,
        iban=OUR_IBAN,
        statement_id=f"{day:%Y}-{house.statements:03d}",
        sequence=str(house.statements),
        day=day,
    )
    house.closing += sum(line.amount for line in lines)
    file = banking.import_bank_file(
        organization_id=house.id,
        content=camt053(made, message_id=f"STMT{house.statements:05d}"),
        name=f"statement-{day.isoformat()}.xml",
        bank_account_id=house.bank_account.id,
        actor=house.actor("mara"),
        now=now,
    )
    assert file.state == "imported", file.reason
    match(now)


def _on(line: Entry, day: date, number: int, statement: int) -> Entry:
    return replace(line, day=day, account_servicer_ref=f"B{statement:04d}{number:03d}")


def match(now: datetime) -> None:
    """Match what came in."""
    while claimed := work.claim_due(LineQueue, limit=1, lease_seconds=60):
        for queue in claimed:
            reconciliation.match_bank_lines(
                organization_id=queue.organization_id, queue=queue, actor=JOB, now=now
            )


# --- Money out --------------------------------------------------------------------------------


def request(house: House, number: int, amount_minor: int, *, now: datetime, **more: Any) -> Any:
    """Ask for a payout of a customer to their destination."""
    actor = more.pop("actor", house.key)
    return payouts.request_payout(
        organization_id=house.id,
        details=PayoutDetails(
            customer_id=house.customers[number].id,
            destination_id=house.destinations[number].id,
            money=Money(amount_minor, "EUR"),
            **more,
        ),
        idempotency_key=new_id().hex,
        actor=actor,
        now=now,
    )


def _pay_out_of(house: House, chance: random.Random, moment: datetime) -> list[Entry]:
    """Pay out in one batch three days ago, and return the lines the bank books for it today."""
    asked_at = moment - timedelta(minutes=30)
    asked = []
    for number in chance.sample(range(len(house.customers)), 3):
        with suppress(Exception):
            asked.append(request(house, number, chance.randint(80_00, 950_00), now=asked_at))
    if not asked:
        return []
    batch = to_the_bank(house, asked[0], now=moment)
    attempts = payout_queries.list_batch_attempts(organization_id=house.id, batch_id=batch.id)
    return [Entry(amount=-one.amount_minor, end_to_end_id=one.end_to_end_id) for one in attempts]


def to_the_bank(house: House, payout: Any, *, now: datetime) -> Any:
    """Freeze, release, write and send the batch that this payout is scheduled for."""
    payout.refresh_from_db()
    key = BatchKey(
        organization_id=house.id,
        bank_account_id=payout.bank_account_id,
        currency=payout.currency,
        rail=payout.rail,
        execution_date=payout.execution_date,
    )
    batch = payouts.freeze_batch(key=key, actor=JOB, now=now)
    common = {"organization_id": house.id, "batch_id": batch.id, "now": now}
    payouts.release_batch(**common, actor=JOB)
    payouts.export_batch(**common, actor=JOB)
    return payouts.mark_batch_sent(
        **common,
        reason="Uploaded in the bank's portal.",
        idempotency_key=f"sent-{batch.id}",
        actor=house.actor("mara"),
    )


def open_payouts(house: House, now: datetime) -> None:
    """Leave payouts waiting: for a person, for a day, and one at the bank."""
    house.payouts["sent"] = request(house, 0, 420_00, now=now)
    house.payouts["sent_too"] = request(house, 1, 615_50, now=now)
    to_the_bank(house, house.payouts["sent"], now=now)
    house.payouts["waiting"] = request(house, 2, 1_250_00, now=now, remittance="Invoice 2291")
    house.payouts["waiting_too"] = request(house, 3, 2_480_00, now=now)
    house.payouts["own"] = request(house, 4, 1_790_00, now=now, actor=house.actor("noor"))
    house.payouts["scheduled"] = request(house, 5, 310_00, now=now)
    house.payouts["canceled"] = request(house, 0, 95_00, now=now)
    payouts.cancel_payout(
        organization_id=house.id,
        payout_id=house.payouts["canceled"].id,
        reason="The customer asked for it.",
        idempotency_key="demo-cancel",
        actor=house.actor("liam"),
        now=now,
    )
    denied = request(house, 1, 1_100_00, now=now)
    decide(house, denied, "anton", "deny", "Amount and invoice differ.", now=now)


def ask_for_goodwill(house: House, now: datetime) -> None:
    """Leave a correction of the books waiting: a fee given back by hand."""
    fees = "fees:payouts:EUR"
    theirs = f"customers:{encode_id('cus', house.customers[0].id)}:available:EUR"
    ids = books.account_ids(organization_id=house.id, codes=[fees, theirs])
    backoffice.request_adjustment(
        organization_id=house.id,
        entry=EntryRequest(
            legs=(Leg(ids[fees], 5_00, "EUR"), Leg(ids[theirs], -5_00, "EUR")),
            description="Fee given back for a late payout",
        ),
        reason="The payout came two days late, by our fault.",
        idempotency_key="demo-goodwill",
        actor=house.actor("mara"),
        now=now,
    )


def decide(house: House, payout: Any, name: str, verdict: str, reason: str, *, now: Any) -> None:
    """Have a person answer the request of a payout."""
    payout.refresh_from_db()
    approvals.decide_approval(
        organization_id=house.id,
        request_id=payout.approval_request_id,
        verdict=verdict,
        reason=reason,
        idempotency_key=new_id().hex,
        actor=house.actor(name),
        now=now,
    )


# --- Contacts and webhooks --------------------------------------------------------------------


def contacts(house: House, now: datetime) -> None:
    """Add somebody who is told about the house's endpoints."""
    accounts.add_contact(
        organization_id=house.id,
        name=CONTACT_NAME,
        email=CONTACT_EMAIL,
        purposes=["technical", "security"],
        idempotency_key="demo-contact",
        actor=JOB,
        now=now,
    )


def endpoints(house: House) -> None:
    """Add two endpoints: one that answers, one that does not."""
    for number, (url, text) in enumerate(
        (
            ("https://hooks.demo-markets.example/kassa", "Order system"),
            ("https://legacy.demo-markets.example/in", "Old accounting"),
        )
    ):
        webhooks.create_endpoint(
            organization_id=house.id,
            terms=EndpointTerms(url=url, description=text, event_types=["*"]),
            idempotency_key=f"demo-endpoint-{number}",
            actor=JOB,
            now=clock.now(),
        )


def deliver(chance: random.Random) -> None:
    """Fan out what happened, and record what the endpoints answered."""
    while outbox.relay():
        pass
    while outbox.consume():
        pass
    for _ in range(200):
        lane = webhook_tasks.claim_lane(is_slow=False)
        if lane is None:
            return
        found = webhooks.open_lane(lane=lane, limit=50, now=clock.now())
        if found is None:
            continue
        is_good = "hooks." in found.url
        webhooks.record_attempts(
            lane=lane,
            seen=found.seen,
            attempts=[
                Attempt(
                    delivery_id=owed.delivery_id,
                    number=owed.number,
                    started_at=clock.now(),
                    duration_ms=chance.randint(28, 240),
                    outcome=Outcome.SUCCEEDED if is_good else Outcome.SERVER_ERROR,
                    status_code=204 if is_good else 503,
                    address="203.0.113.9",
                    head="" if is_good else "upstream unavailable",
                )
                for owed in found.owed
            ],
            is_last=True,
            now=clock.now(),
        )


# --- Providers --------------------------------------------------------------------------------


def hear_from_a_provider(house: House, now: datetime) -> None:
    """Connect a provider; it told something that nobody handles, and somebody else tried to."""
    connection = webhooks.add_provider_connection(
        organization_id=house.id,
        provider="sandbox",
        name="Cards",
        secret=signing.write_secret(b"s" * 32),
        idempotency_key="demo-provider",
        actor=JOB,
        now=now,
    )
    webhooks.count_refused_call(connection=connection, reason="signature_invalid", now=now)
    webhooks.receive_event(
        connection=connection,
        reading=Reading(type="card.updated", object_key="card_1", event_id="msg_1"),
        body=b"{}",
        now=now,
    )
    webhook_tasks.work_inbound()


# --- Work -------------------------------------------------------------------------------------


def set_aside_a_period() -> None:
    """Have one period of a job quarantined, as after its twelfth failure."""
    now = clock.now()
    period = JobRun.objects.create(
        kind="banking.seed_calendar",
        period=f"{now:%Y-%m-%d}",
        due_at=now,
        attempts=work.ATTEMPTS_MAX - 1,
    )
    [leased] = work.claim_due(JobRun, limit=1, lease_seconds=60, only_ids=[period.id])
    _give_up(leased)


@transactions.outermost
def _give_up(leased: JobRun) -> None:
    row = work.lock_leased(
        JobRun, organization_id=None, row_id=leased.id, lease_token=leased.lease_token
    )
    assert row is not None
    work.mark_retry(row, error_code="job_failed")
