"""Customers with money, a bank account of ours, and payouts at each step of their life."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection
from django.utils import timezone
from lxml import etree

from apps.accounts.models import Customer, Organization
from apps.approvals import operations as approvals
from apps.approvals.invariants import INVARIANTS as APPROVALS
from apps.banking import operations as banking
from apps.banking import queries as banking_queries
from apps.banking.formats import pain001_reader
from apps.banking.formats.values import PaymentStatus, Reason, StatusReport, TransactionStatus
from apps.banking.models import BankAccount
from apps.banking.operations import Holder
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.money import Money
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from apps.ledger.operations import AccountSpec
from apps.ledger.rules import AccountStatus, Transfer
from apps.payouts import operations, queries
from apps.payouts.invariants import INVARIANTS as PAYOUTS
from apps.payouts.operations import DestinationDetails, PayoutDetails, SendOutcome
from apps.payouts.queries import BatchKey
from apps.payouts.rules import BankLineFact
from apps.risk.invariants import INVARIANTS as RISK
from tests.payouts import people

# A Tuesday morning in Berlin; the cut-off is 16:00, 15:00 UTC.
NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
CUT_OFF = datetime(2026, 11, 24, 15, tzinfo=UTC)
JOB = Actor.job("tests")
OUR_IBAN = "DE89370400440532013000"
IBANS = ("DE75512108001245126199", "FR1420041010050500013M02606", "NL91ABNA0417164300")


@dataclass
class World:
    """One organization that can pay out."""

    organization: Organization
    bank_account: BankAccount
    key: Actor

    @property
    def id(self):
        return self.organization.id


def world(channel: str = "manual", owner: Organization | None = None) -> World:
    owner = owner or people.organization()
    connected = banking.add_bank_connection(
        organization_id=owner.id,
        name="Our bank",
        channel=channel,
        idempotency_key="connection",
        actor=JOB,
        now=NOW,
    )
    account = banking.add_bank_account(
        organization_id=owner.id,
        connection_id=connected.id,
        name="Main",
        identification=OUR_IBAN,
        currency="EUR",
        holder=Holder(name="Acme Payments GmbH", town="Berlin", country="DE"),
        bic="COBADEFFXXX",
        idempotency_key="account",
        actor=JOB,
        now=NOW,
    )
    issuer = people.staff("finance_maker")
    key = Actor(kind="api_key", id=str(new_id()), principal=issuer.principal)
    return World(owner, account, key)


def customer_with(home: World, amount_minor: int, currency: str = "EUR") -> Customer:
    """Make a customer with this much available, paid in from the opening balance."""
    row = people.customer(home.organization)

    def fund():
        available = queries.available_code(customer_id=row.id, currency=currency)
        ids = ledger.open_accounts(
            organization_id=home.id,
            accounts=[
                AccountSpec(available, "liability", currency, 0, internal=False),
                AccountSpec(f"equity:opening:{currency}", "equity", currency),
            ],
            now=NOW,
        )
        if amount_minor:
            command = Transfer(
                id=new_id(),
                debit_account_id=ids[f"equity:opening:{currency}"],
                credit_account_id=ids[available],
                amount_minor=amount_minor,
                currency=currency,
            )
            ledger.post(organization_id=home.id, commands=[command], actor=JOB, now=NOW)

    people.in_transaction(fund)
    return row


def destination(home: World, customer: Customer, iban: str = IBANS[0], **more: Any):
    details = {"holder_name": "Ada Lovelace", "currency": "EUR", **more}
    key, now = details.pop("key", None) or new_id().hex, details.pop("now", NOW)
    return operations.create_destination(
        organization_id=home.id,
        details=DestinationDetails(customer_id=customer.id, iban=iban, **details),
        idempotency_key=key,
        actor=home.key,
        now=now,
    )


def request(home: World, target: Any, amount_minor: int, **more: Any):
    """Ask for a payout to a destination."""
    key, now = more.pop("key", None) or new_id().hex, more.pop("now", NOW)
    actor = more.pop("actor", home.key)
    money = Money(amount_minor, more.pop("currency", "EUR"))
    return operations.request_payout(
        organization_id=home.id,
        details=PayoutDetails(
            **{
                "customer_id": target.customer_id,
                "destination_id": target.id,
                "money": money,
                **more,
            }
        ),
        idempotency_key=key,
        actor=actor,
        now=now,
    )


def cancel(home: World, payout: Any, *, key: str | None = None, now: datetime = NOW):
    return operations.cancel_payout(
        organization_id=home.id,
        payout_id=payout.id,
        reason="changed my mind",
        idempotency_key=key or new_id().hex,
        actor=home.key,
        now=now,
    )


def decide(home: World, payout: Any, person: Actor, verdict: str = "approve", now: datetime = NOW):
    payout.refresh_from_db()
    return approvals.decide_approval(
        organization_id=home.id,
        request_id=payout.approval_request_id,
        verdict=verdict,
        reason="seen",
        idempotency_key=new_id().hex,
        actor=person,
        now=now,
    )


def key_of(payout: Any) -> BatchKey:
    payout.refresh_from_db()
    return BatchKey(
        organization_id=payout.organization_id,
        bank_account_id=payout.bank_account_id,
        currency=payout.currency,
        rail=payout.rail,
        execution_date=payout.execution_date,
    )


def freeze(payout: Any, now: datetime = CUT_OFF):
    return operations.freeze_batch(key=key_of(payout), actor=JOB, now=now)


def export(batch: Any, now: datetime = CUT_OFF):
    common = {"organization_id": batch.organization_id, "batch_id": batch.id, "now": now}
    operations.release_batch(**common, actor=JOB)
    return operations.export_batch(**common, actor=JOB)


def send(batch: Any, outcome: SendOutcome = SendOutcome.ACCEPTED, now: datetime = CUT_OFF):
    common = {"organization_id": batch.organization_id, "batch_id": batch.id, "now": now}
    operations.begin_send(**common, actor=JOB)
    return operations.record_send(**common, outcome=outcome, actor=JOB)


def submitted(*payouts: Any):
    """Bring scheduled payouts of one key to the bank, and return their batch."""
    batch = freeze(payouts[0])
    export(batch)
    batch = send(batch)
    for payout in payouts:
        payout.refresh_from_db()
    return batch


def attempt_of(payout: Any):
    return queries.list_attempts(organization_id=payout.organization_id, payout_id=payout.id)[-1]


def line(home: World, payout: Any, **more: Any) -> BankLineFact:
    """Return a bank line that names this payout's attempt."""
    attempt = attempt_of(payout)
    return BankLineFact(
        **{
            "bank_line_id": new_id(),
            "bank_account_id": home.bank_account.id,
            "money_account_id": home.bank_account.ledger_account_id,
            "amount_minor": attempt.amount_minor,
            "currency": "EUR",
            "booked_at": CUT_OFF + timedelta(hours=8),
            "end_to_end_id": attempt.end_to_end_id,
            **more,
        }
    )


def settle(home: World, fact: BankLineFact, now: datetime = CUT_OFF):
    return people.in_transaction(
        partial(
            operations.settle_from_bank_line,
            organization_id=home.id,
            fact=fact,
            actor=JOB,
            now=now,
        )
    )


def give_back(home: World, fact: BankLineFact, now: datetime = CUT_OFF):
    return people.in_transaction(
        partial(
            operations.return_from_bank_line,
            organization_id=home.id,
            fact=fact,
            actor=JOB,
            now=now,
        )
    )


def settled(home: World, payout: Any):
    """Bring a scheduled payout to its settlement."""
    submitted(payout)
    settle(home, line(home, payout))
    payout.refresh_from_db()
    return payout


def report(batch: Any, group: str | None = None, *, code: str | None = None, **said: str):
    """Return a status report on a batch; `said`: end-to-end id to `STATUS[/CODE]`."""
    transactions = []
    for end_to_end_id, text in said.items():
        status, _, reason = text.partition("/")
        reasons = (Reason(code=reason, text="the bank's words"),) if reason else ()
        transactions.append(
            TransactionStatus(
                status=status, end_to_end_id=end_to_end_id, instruction_id=None, reasons=reasons
            )
        )
    payment = PaymentStatus(
        status=None,
        payment_information_id=batch.payment_information_id,
        transactions=tuple(transactions),
    )
    return StatusReport(
        version="pain.002.001.10",
        message_id="theirs",
        original_message_id=batch.message_id,
        group_status=group,
        reasons=(Reason(code=code),) if code else (),
        payments=(payment,) if transactions else (),
    )


def apply(home: World, answer: StatusReport, *, file_id: Any = None, now: datetime = CUT_OFF):
    return operations.apply_status_report(
        organization_id=home.id,
        bank_file_id=file_id or new_id(),
        report=answer,
        actor=JOB,
        now=now,
    )


def file_of(batch: Any):
    """Return the stored file of a batch, read back, and its bytes."""
    batch.refresh_from_db()
    content = banking_queries.get_bank_file_content(
        organization_id=batch.organization_id, bank_file_id=batch.file_id
    )
    etree.fromstring(content)
    return pain001_reader.read_back(content), content


def balances(home: World) -> dict[str, int]:
    """Return what is posted, in minor units, by the code's name without ids, zeros left out."""
    found: dict[str, int] = {}
    for one in books.list_balances(organization_id=home.id):
        parts = [part for part in one.code.split(":") if "_0" not in part]
        name = ":".join(parts[:-1])
        found[name] = found.get(name, 0) + one.posted
    return {name: amount for name, amount in found.items() if amount}


def available(home: World, customer: Any) -> int:
    code = queries.available_code(customer_id=customer.id, currency="EUR")
    [id_] = books.account_ids(organization_id=home.id, codes=[code]).values()
    return books.get_balance(organization_id=home.id, account_id=id_).available


def check_invariants() -> None:
    with connection.cursor() as cursor:
        for name, sql in {**PAYOUTS, **APPROVALS, **RISK}.items():
            cursor.execute(sql)
            assert not cursor.fetchall(), name


def history(payout: Any) -> list[str]:
    return [
        one.to_state
        for one in queries.list_transitions(
            organization_id=payout.organization_id, payout_id=payout.id
        )
    ]


def today() -> datetime:
    return timezone.now()


def attempt_printed(payout: Any) -> str:
    return encode_id("pat", attempt_of(payout).id)


def suspense(home: World) -> Any:
    """Return the ledger account for money that nobody has explained yet."""
    spec = AccountSpec("suspense:in:EUR", "liability", "EUR")
    opened = people.in_transaction(
        partial(ledger.open_accounts, organization_id=home.id, accounts=[spec], now=NOW)
    )
    return opened[spec.code]


def to_suspense(home: World, account_id: Any, amount_minor: int) -> None:
    """Book a credit of the bank as not explained, as reconciliation does."""
    command = Transfer(
        id=new_id(),
        debit_account_id=home.bank_account.ledger_account_id,
        credit_account_id=account_id,
        amount_minor=amount_minor,
        currency="EUR",
    )
    people.in_transaction(
        partial(ledger.post, organization_id=home.id, commands=[command], actor=JOB, now=NOW)
    )


def set_status(home: World, customer: Any, status: str) -> None:
    """Freeze, close or open a customer's ledger account."""
    code = queries.available_code(customer_id=customer.id, currency="EUR")
    [id_] = books.account_ids(organization_id=home.id, codes=[code]).values()
    people.in_transaction(
        partial(
            ledger.change_account,
            organization_id=home.id,
            account_id=id_,
            change=ledger.AccountChange(status=AccountStatus(status), reason="asked to"),
            actor=JOB,
            now=NOW,
        )
    )
