"""A booked line of our statement: the only thing that settles a payout, and what returns one."""

from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from django.conf import settings

from apps.accounts import queries as accounts
from apps.accounts.states import CustomerState
from apps.banking import queries as banking
from apps.core import transactions
from apps.core.actors import Actor
from apps.core.wall_clock import day_of
from apps.ledger import operations as ledger
from apps.ledger import queries as ledger_queries
from apps.ledger.queries import Dating
from apps.payouts import queries
from apps.payouts.models import BankFact, Payout, PayoutAttempt
from apps.payouts.operations import _books
from apps.payouts.operations._books import ReturnSplit
from apps.payouts.operations._effects import apply_to_destinations
from apps.payouts.operations._following import close_batch, follow
from apps.payouts.operations._line_locks import Locked, lock_line, reread
from apps.payouts.operations._moves import move_attempts
from apps.payouts.operations.sending import submit
from apps.payouts.rules import (
    BankLineFact,
    Desk,
    LineOutcome,
    LineResult,
    MoneyEffect,
    handling,
)
from apps.payouts.states import AttemptState, BankFactState, BatchState

SETTLEMENT: Final = "settlement"
RETURN: Final = "return"
_WAITING: Final = frozenset({AttemptState.SUBMITTED, AttemptState.UNKNOWN})
_NO_FILE: Final = frozenset({BatchState.FROZEN, BatchState.RELEASED, BatchState.VOIDED})
_OUTCOME: Final = {
    LineOutcome.APPLIED: BankFactState.APPLIED,
    LineOutcome.ALREADY_APPLIED: BankFactState.APPLIED,
    LineOutcome.PARKED: BankFactState.PARKED,
    LineOutcome.SUPERSEDED: BankFactState.SUPERSEDED,
    LineOutcome.UNMATCHED: BankFactState.UNMATCHED,
}


# --- Settlement ---------------------------------------------------------------------------------


@transactions.required
def settle_from_bank_line(
    *, organization_id: UUID, fact: BankLineFact, actor: Actor, now: datetime
) -> LineResult:
    """
    Settle what a debit of our account pays: one payout, or a whole batch booked as one line.

    Dr in transit, Cr `fact.money_account_id`. A payout that was still `unknown` is captured and
    settled together. The same line again posts nothing.
    """
    locked = lock_line(organization_id, fact, is_return=False)
    if locked is None:
        return _answer(organization_id, SETTLEMENT, fact, LineOutcome.UNMATCHED, None, now=now)
    if all(attempt.settled_line_id == fact.bank_line_id for attempt in locked.attempts):
        return LineResult(outcome=LineOutcome.ALREADY_APPLIED, attempt_ids=locked.ids)
    if locked.batch.state in _NO_FILE:
        outcome = LineOutcome.UNMATCHED
        return _answer(organization_id, SETTLEMENT, fact, outcome, locked, now=now)
    # The bank booked it, so it has the file, whatever the channel told us.
    submit(locked.batch, actor=actor, now=now)
    locked = reread(locked)
    if any(attempt.state not in _WAITING for attempt in locked.attempts):
        outcome = LineOutcome.SUPERSEDED
        return _answer(organization_id, SETTLEMENT, fact, outcome, locked, now=now)
    entry_ids = _settle(locked, fact, actor=actor, now=now)
    result = _answer(organization_id, SETTLEMENT, fact, LineOutcome.APPLIED, locked, now=now)
    return replace(result, entry_ids=entry_ids)


def _settle(locked: Locked, fact: BankLineFact, *, actor: Actor, now: datetime) -> tuple[UUID, ...]:
    payouts = [locked.payouts[attempt.payout_id] for attempt in locked.attempts]
    books = _books.accounts_of(payouts, now=now)
    dating = _dating(locked.batch.organization_id, fact)
    commands = [
        command
        for attempt, payout in zip(locked.attempts, payouts, strict=True)
        for command in _books.settle(
            payout,
            attempt,
            books,
            money_account_id=fact.money_account_id,
            dating=dating,
        )
    ]
    for attempt in locked.attempts:
        attempt.settled_line_id = fact.bank_line_id
    move_attempts(
        locked.attempts,
        AttemptState.SETTLED,
        now=now,
        fields=["settle_entry_id", "settled_line_id"],
    )
    follow(payouts, actor=actor, now=now)
    close_batch(locked.batch, actor=actor, now=now)
    ledger.post(
        organization_id=locked.batch.organization_id, commands=commands, actor=actor, now=now
    )
    return tuple(one.settle_entry_id for one in locked.attempts if one.settle_entry_id)


def _dating(organization_id: UUID, fact: BankLineFact) -> Dating:
    """Return how the line's entries are dated, also where its month was closed before it came."""
    dated = ledger_queries.date_facts(organization_id=organization_id, instants=[fact.booked_at])
    return dated[fact.booked_at]


# --- Returns ------------------------------------------------------------------------------------


@transactions.required
def return_from_bank_line(
    *, organization_id: UUID, fact: BankLineFact, actor: Actor, now: datetime
) -> LineResult:
    """
    Give back what a credit of our account returns: to the customer, or by its code to suspense.

    Dr `fact.money_account_id`, Cr available. A return that came before its settlement is parked:
    call again once the payout is settled. The same line again posts nothing.
    """
    locked = None
    if fact.end_to_end_id:
        locked = lock_line(organization_id, fact, is_return=True)
    if locked is None or _is_too_early(locked, fact):
        return _answer(organization_id, RETURN, fact, LineOutcome.UNMATCHED, None, now=now)
    [attempt] = locked.attempts
    if attempt.state == AttemptState.RETURNED:
        same = attempt.returned_line_id == fact.bank_line_id
        if same:
            return LineResult(outcome=LineOutcome.ALREADY_APPLIED, attempt_ids=locked.ids)
        outcome = LineOutcome.SUPERSEDED
    elif attempt.state == AttemptState.SETTLED:
        entry_ids = _return(locked, fact, actor=actor, now=now)
        result = _answer(organization_id, RETURN, fact, LineOutcome.APPLIED, locked, now=now)
        return replace(result, entry_ids=entry_ids)
    elif attempt.state in {AttemptState.REJECTED, AttemptState.NOT_SENT}:
        outcome = LineOutcome.SUPERSEDED
    else:
        outcome = LineOutcome.PARKED
    return _answer(organization_id, RETURN, fact, outcome, locked, now=now)


def _is_too_early(locked: Locked, fact: BankLineFact) -> bool:
    """A line booked before the file was even frozen is about something else."""
    account = banking.get_bank_account(
        organization_id=locked.batch.organization_id, bank_account_id=fact.bank_account_id
    )
    booked = day_of(instant=fact.booked_at, zone=account.zone)
    return booked < day_of(instant=locked.batch.frozen_at, zone=account.zone)


def _return(locked: Locked, fact: BankLineFact, *, actor: Actor, now: datetime) -> tuple[UUID, ...]:
    [attempt] = locked.attempts
    payout = locked.payouts[attempt.payout_id]
    books = _books.accounts_of([payout], now=now)
    commands = _books.give_back(
        payout,
        attempt,
        books,
        split=_split(payout, attempt, books, fact),
        money_account_id=fact.money_account_id,
        dating=_dating(payout.organization_id, fact),
    )
    attempt.returned_line_id = fact.bank_line_id
    attempt.returned_minor = fact.amount_minor
    attempt.reason_code = (fact.reason_code or "")[:35]
    attempt.reason_text = fact.reason_text[:500]
    move_attempts(
        [attempt],
        AttemptState.RETURNED,
        now=now,
        fields=[
            "return_entry_id",
            "returned_line_id",
            "returned_minor",
            "reason_code",
            "reason_text",
        ],
    )
    is_told = handling(fact.reason_code).desk is not Desk.COMPLIANCE
    values: dict[str, object] = {
        "returned_minor": min(payout.amount_minor, fact.amount_minor),
        "failure_code": "bank_returned",
        "bank_code": attempt.reason_code if is_told else "",
    }
    payout.returned_minor = min(payout.amount_minor, fact.amount_minor)
    follow([payout], actor=actor, now=now, values={payout.id: values})
    apply_to_destinations(
        organization_id=payout.organization_id,
        codes={payout.destination_id: {attempt.reason_code}},
        actor=actor,
        now=now,
    )
    if commands:
        ledger.post(organization_id=payout.organization_id, commands=commands, actor=actor, now=now)
    return (attempt.return_entry_id,) if attempt.return_entry_id else ()


def _split(
    payout: Payout, attempt: PayoutAttempt, books: _books.Accounts, fact: BankLineFact
) -> ReturnSplit:
    came, went = fact.amount_minor, attempt.amount_minor
    customer = accounts.get_customer(
        organization_id=payout.organization_id, customer_id=payout.customer_id
    )
    row = handling(fact.reason_code)
    is_shut = customer.state != CustomerState.OPEN or bool(
        _books.closed_to_money(books, organization_id=payout.organization_id)
    )
    if is_shut or row.returned is not MoneyEffect.TO_CUSTOMER:
        return ReturnSplit(to_customer=0, to_suspense=came, fee=0)
    if came >= went:
        return ReturnSplit(to_customer=went, to_suspense=came - went, fee=0)
    if went - came <= settings.PAYOUT_RETURN_FEE_MAX_MINOR:
        return ReturnSplit(to_customer=went, to_suspense=0, fee=went - came)
    return ReturnSplit(to_customer=came, to_suspense=0, fee=0)


# --- Remembering --------------------------------------------------------------------------------


def _answer(
    organization_id: UUID,
    kind: str,
    fact: BankLineFact,
    outcome: LineOutcome,
    locked: Locked | None,
    *,
    now: datetime,
) -> LineResult:
    """Remember what became of the line, or of its next try, and say it."""
    state = _OUTCOME[outcome]
    desk = _desk(kind, fact, outcome)
    known = queries.facts_of_lines(
        organization_id=organization_id, kind=kind, bank_line_id=fact.bank_line_id
    ).get(0)
    if known is None:
        single = locked is not None and len(locked.attempts) == 1
        BankFact.objects.create(
            organization_id=organization_id,
            kind=kind,
            state=state,
            batch_id=locked.batch.id if locked else None,
            attempt_id=locked.attempts[0].id if locked and single else None,
            bank_line_id=fact.bank_line_id,
            end_to_end_id=(fact.end_to_end_id or "")[:35],
            reason_code=(fact.reason_code or "")[:35],
            reason_text=fact.reason_text[:500],
            amount_minor=fact.amount_minor,
            currency=fact.currency,
            desk=desk.value,
            recorded_at=now,
        )
    elif known.state != state:
        known.state, known.desk = state, desk.value
        known.save(update_fields=["state", "desk"])
    return LineResult(outcome=outcome, attempt_ids=locked.ids if locked else ())


def _desk(kind: str, fact: BankLineFact, outcome: LineOutcome) -> Desk:
    if outcome in {LineOutcome.SUPERSEDED, LineOutcome.UNMATCHED}:
        return Desk.STAFF
    if outcome is LineOutcome.APPLIED and kind == RETURN:
        return handling(fact.reason_code).desk
    return Desk.NOBODY
