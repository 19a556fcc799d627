"""Bank transfers that came in: on a customer's account, or in suspense with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core import outbox, transactions
from apps.core.actors import Actor
from apps.core.copying import copy_rows
from apps.core.ids import encode_id, new_id
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from apps.ledger.operations import AccountSpec
from apps.ledger.queries import Dating
from apps.ledger.rules import Command, Transfer
from apps.payments import events, queries
from apps.payments.models import Payment, UnmatchedMoney
from apps.payments.rules import IncomingTransfer, Verdict, decide_owner
from apps.payments.states import Method, PaymentState

SUSPENSE_IN: Final = "suspense:in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What became of one transfer: a payment, or unmatched money; and the entry it stands by."""

    payment_id: UUID | None
    unmatched_id: UUID | None
    entry_id: UUID
    reason: str = ""


@transactions.required
def receive_bank_transfers(
    *,
    organization_id: UUID,
    transfers: Sequence[IncomingTransfer],
    actor: Actor,
    now: datetime,
) -> list[Received]:
    """
    Take in money that a bank booked: to its customer's available balance, or to suspense.

    All of it in one call of the ledger and a fixed number of statements. Each bank line (or detail)
    is taken once: its entry's reference and a unique constraint refuse a second time.
    """
    if not transfers:
        return []
    verdicts = _decide(organization_id, transfers)
    suspense = _suspense_accounts(organization_id, transfers, now=now)
    # A month may be closed before its statement comes; the money came in all the same.
    dated = books.date_facts(
        organization_id=organization_id, instants={one.received_at for one in transfers}
    )
    commands: list[Command] = []
    payments: list[Payment] = []
    unmatched: list[UnmatchedMoney] = []
    results = []
    for one, verdict in zip(transfers, verdicts, strict=True):
        dating = dated[one.received_at]
        if verdict.owner is not None:
            payment = _payment(organization_id, one, verdict, now=now)
            payments.append(payment)
            commands.append(_to_customer(one, verdict.owner.ledger_account_id, payment, dating))
            results.append(
                Received(payment_id=payment.id, unmatched_id=None, entry_id=payment.entry_id)
            )
            continue
        money = _unmatched(organization_id, one, verdict, now=now)
        unmatched.append(money)
        if not one.is_in_suspense:
            commands.append(_to_suspense(one, suspense[one.currency], money, dating))
        results.append(
            Received(
                payment_id=None,
                unmatched_id=money.id,
                entry_id=money.entry_id,
                reason=verdict.reason,
            )
        )
    ledger.post(organization_id=organization_id, commands=commands, actor=actor, now=now)
    copy_rows(payments)
    copy_rows(unmatched)
    references = {
        verdict.owner.id: verdict.owner.reference for verdict in verdicts if verdict.owner
    }
    for payment in payments:
        _publish(payment, references, actor=actor, now=now)
    return results


def _decide(organization_id: UUID, transfers: Sequence[IncomingTransfer]) -> list[Verdict]:
    readings = {reading for one in transfers for place in one.places for reading in place}
    known = queries.find_known_references(organization_id=organization_id, references=readings)
    return [decide_owner(one, known) for one in transfers]


def _suspense_accounts(
    organization_id: UUID, transfers: Sequence[IncomingTransfer], *, now: datetime
) -> dict[str, UUID]:
    currencies = sorted({one.currency for one in transfers})
    specs = [AccountSpec(f"{SUSPENSE_IN}:{code}", "liability", code) for code in currencies]
    opened = ledger.open_accounts(organization_id=organization_id, accounts=specs, now=now)
    return {code: opened[f"{SUSPENSE_IN}:{code}"] for code in currencies}


def _reference(one: IncomingTransfer) -> str:
    """Return the entry's reference: a line, or a detail of it, posts once for ever."""
    if one.bank_line_detail_id is not None:
        return f"bank_line_detail:{one.bank_line_detail_id}:assign"
    return f"bank_line:{one.bank_line_id}:post"


def _to_customer(
    one: IncomingTransfer, account_id: UUID, payment: Payment, dating: Dating
) -> Command:
    about = {"payment": encode_id("pay", payment.id)}
    return _posting(one, account_id, payment.entry_id, "payment.receive", about, dating)


def _to_suspense(
    one: IncomingTransfer, account_id: UUID, money: UnmatchedMoney, dating: Dating
) -> Command:
    about = {"bank_line": encode_id("bl", one.bank_line_id), "reason": money.reason}
    return _posting(one, account_id, money.entry_id, "payment.suspend", about, dating)


def _posting(
    one: IncomingTransfer,
    account_id: UUID,
    entry_id: UUID,
    kind: str,
    about: Mapping[str, str],
    dating: Dating,
) -> Command:
    return Transfer(
        id=entry_id,
        debit_account_id=one.money_account_id,
        credit_account_id=account_id,
        amount_minor=one.amount_minor,
        currency=one.currency,
        kind=kind,
        reference=_reference(one),
        effective_at=dating.effective_at,
        metadata={**about, **dating.metadata},
    )


def _payment(
    organization_id: UUID, one: IncomingTransfer, verdict: Verdict, *, now: datetime
) -> Payment:
    assert verdict.owner is not None  # noqa: S101  (the caller asked)
    return Payment(
        id=new_id(),
        organization_id=organization_id,
        customer_id=verdict.owner.customer_id,
        virtual_reference_id=verdict.owner.id,
        bank_line_id=one.bank_line_id,
        bank_line_detail_id=one.bank_line_detail_id,
        entry_id=new_id(),
        method=Method.BANK_TRANSFER,
        state=PaymentState.RECEIVED,
        amount_minor=one.amount_minor,
        currency=one.currency,
        sender_tail=one.sender_tail,
        sender_index=one.sender_index,
        received_at=one.received_at,
        created_at=now,
        event_sequence=1,
    )


def _unmatched(
    organization_id: UUID, one: IncomingTransfer, verdict: Verdict, *, now: datetime
) -> UnmatchedMoney:
    return UnmatchedMoney(
        id=new_id(),
        organization_id=organization_id,
        bank_line_id=one.bank_line_id,
        bank_line_detail_id=one.bank_line_detail_id,
        entry_id=one.suspense_entry_id or new_id(),
        amount_minor=one.amount_minor,
        currency=one.currency,
        reason=verdict.reason,
        candidates=[encode_id("vref", id_) for id_ in verdict.candidates],
        received_at=one.received_at,
        created_at=now,
    )


def _publish(payment: Payment, references: dict[UUID, str], *, actor: Actor, now: datetime) -> None:
    owner = payment.virtual_reference_id
    outbox.publish(
        events.PaymentReceived(
            organization_id=payment.organization_id,
            aggregate_id=encode_id("pay", payment.id),
            sequence=payment.event_sequence,
            occurred_at=now,
            id=encode_id("pay", payment.id),
            customer=encode_id("cus", payment.customer_id),
            amount=payment.amount_minor,
            currency=payment.currency,
            method=payment.method,
            state=payment.state,
            virtual_reference=encode_id("vref", owner) if owner else None,
            reference=references.get(owner, "") if owner else "",
            received_at=payment.received_at,
        ),
        actor=actor,
        now=now,
    )
