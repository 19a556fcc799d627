"""
Closing a month and opening it again: two people each, in order (ADR 0071).

A close has two steps. The first says `closing`, and from its commit on the trigger on postings
refuses whatever is effective before the month's end. A transaction that began to post before may
not have seen that, so the second step waits until all of those have ended, and only then stores the
trial balance. No posting waits for either.
"""

from collections.abc import Iterable
from datetime import date, datetime
from itertools import batched
from typing import Final
from uuid import UUID

from django.db import connection

from apps.accounts import queries as accounts
from apps.core import audit, idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.wall_clock import print_instant
from apps.ledger import errors, events, queries
from apps.ledger.models import Period, PeriodBalance
from apps.ledger.operations._by_hand import refuse_one_person
from apps.ledger.queries import CLOSES_AFTER
from apps.ledger.states import PeriodState

CLOSE = "ledger.close_period"
REOPEN = "ledger.reopen_period"

_STORE: Final = """
    INSERT INTO ledger_period_balance
        (organization_id, month, closing, account_id, opening_minor, debits_minor, credits_minor)
    SELECT %(org)s, %(month)s, %(closing)s, line.id, line.opening, line.debits, line.credits
      FROM ({lines}) AS line
"""

_PORTION: Final = 5_000

# A transaction that read the months before one began to close posts after: run again, it finds the
# month closing, and refuses.
transactions.run_again_on_unique("journal_entry_is_in_an_open_period")


@transactions.required
def prepare_close(*, organization_id: UUID, month: date, now: datetime) -> Period:
    """
    Return the month's row, locked and fit to be closed; it is made where there is none.

    The first month to be closed may be any: it closes all before it.

    :raises PeriodNotOver: if the month ended less than an hour ago, or not yet
    :raises PeriodOutOfOrder: if an earlier month is open, and one before that was closed
    :raises PeriodClosing: if it, or the month before it, is closing
    :raises PeriodClosedAlready: if it is closed, or lies before a month that is
    """
    if queries.find_period(organization_id=organization_id, month=month) is None:
        starts_at, ends_at = queries.period_bounds(organization_id=organization_id, month=month)
        row = Period(
            id=new_id(),
            organization_id=organization_id,
            month=month,
            starts_at=starts_at,
            ends_at=ends_at,
        )
        # Two may ask for one month at once: the first insert wins and both read it back.
        Period.objects.bulk_create([row], ignore_conflicts=True)
    locked = queries.lock_periods(organization_id=organization_id)
    period = next(row for row in locked.values() if row.month == month)
    _refuse_close(period, now=now)
    return period


def _refuse_close(period: Period, *, now: datetime) -> None:
    """Refuse what may not be closed now; every period of the organisation is locked."""
    last = queries.last_closed(organization_id=period.organization_id)
    if last is not None and last.state == PeriodState.CLOSING:
        raise errors.PeriodClosing("A month is closing.", period=str(last))
    if last is not None and period.month <= last.month:
        raise errors.PeriodClosedAlready("This month is closed already.", period=str(period))
    closes_at = period.ends_at + CLOSES_AFTER
    if now < closes_at:
        raise errors.PeriodNotOver(
            "A month closes an hour after its end.",
            period=str(period),
            closes_at=print_instant(closes_at),
        )
    turn = queries.next_to_close(organization_id=period.organization_id)
    if turn is not None and turn < period.month:
        raise errors.PeriodOutOfOrder("An earlier month is open.", period=f"{turn:%Y-%m}")


@transactions.required
def begin_closing(
    *,
    organization_id: UUID,
    period_id: UUID,
    requested_by: str,
    approved_by: str,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Period:
    """
    Freeze a month: what `requested_by` asked for and `approved_by` agreed to, as principals.

    It is closed right after the commit, if nothing older is under way, else by the job within a
    minute or so.

    :raises TwoPeopleNeeded: if both are one person
    :raises PeriodNotFound: if the organisation has no such period
    :raises Refusal: as `prepare_close`
    """
    refuse_one_person(requested_by, approved_by)
    period = _locked(organization_id, period_id)
    _refuse_close(period, now=now)
    period.requested_by, period.approved_by = requested_by, approved_by
    period.closing_after = None
    _move(period, PeriodState.CLOSING, events.PeriodFrozen, CLOSE, reason, actor, now)

    def finish() -> None:
        finish_closing(organization_id=organization_id, period_id=period_id, now=now)

    transactions.on_commit(finish)
    return period


@transactions.required
def restore_closing(*, period: Period, actor: Actor, now: datetime) -> None:
    """
    Freeze a month of an imported journal that was closed in the exported one, by the same two.

    `period.closings` is how often it had been closed before. `finish_closing` closes it once its
    entries are sealed. One that stands already is left as it is.

    :raises TwoPeopleNeeded: if both are one person
    """
    refuse_one_person(period.requested_by, period.approved_by)
    queries.lock_periods(organization_id=period.organization_id)
    if queries.find_period(organization_id=period.organization_id, month=period.month) is None:
        _move(period, PeriodState.CLOSING, events.PeriodFrozen, CLOSE, "Imported.", actor, now)


@transactions.required
def restore_reopened(
    *, period: Period, stored: Iterable[PeriodBalance], actor: Actor, now: datetime
) -> None:
    """
    Keep a month of an imported journal that was closed and opened again, with what was stored then.

    So the month in turn is that of the exported one. One that stands already is left as it is.

    :raises TwoPeopleNeeded: if who closed it, or who opened it, are one person
    """
    refuse_one_person(period.requested_by, period.approved_by)
    if period.reopening_requested_by:
        refuse_one_person(period.reopening_requested_by, period.reopening_approved_by)
    queries.lock_periods(organization_id=period.organization_id)
    if queries.find_period(organization_id=period.organization_id, month=period.month) is not None:
        return
    for portion in batched(stored, _PORTION):
        PeriodBalance.objects.bulk_create(portion)
    _move(period, PeriodState.OPEN, events.PeriodReopened, REOPEN, "Imported.", actor, now)


@transactions.outermost
def finish_closing(*, organization_id: UUID, period_id: UUID, now: datetime) -> Period:
    """
    Store the trial balance and close, if nothing that may still post to the month is under way.

    Else, or while entries of it are not sealed, it stays as it is: call it again. Calling it for a
    month that is not closing does nothing.
    """
    # Before this transaction has a number: whoever did not see the month closing has a lower one.
    seen = queries.get_period(organization_id=organization_id, period_id=period_id)
    period = _locked(organization_id, period_id)
    if seen.state != PeriodState.CLOSING or seen.event_sequence != period.event_sequence:
        return period
    if period.closing_after is None:
        period.closing_after = queries.own_transaction()
        period.save(update_fields=["closing_after"])
    if queries.oldest_transaction() < period.closing_after:
        return period
    if queries.count_unsealed(organization_id=organization_id, until=period.ends_at):
        return period
    period.closings += 1
    _store_trial_balance(period)
    period.closed_at = now
    _name_reopening(period)
    actor = Actor.job("ledger.close_periods")
    _move(period, PeriodState.CLOSED, events.PeriodClosed, CLOSE, "", actor, now)
    return period


def _store_trial_balance(period: Period) -> None:
    # Added up and stored by one statement: there may be as many lines as there are accounts.
    lines, values = queries.movements_statement(
        organization_id=period.organization_id, since=period.starts_at, until=period.ends_at
    )
    with connection.cursor() as cursor:
        cursor.execute(
            _STORE.format(lines=lines),
            values | {"month": period.month, "closing": period.closings},
        )


@transactions.outermost
def call_off_closing(
    *,
    organization_id: UUID,
    period_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Period:
    """
    Let a closing month take entries again; whoever may ask for a close may stop one.

    Replaying the key returns the period as it is now.

    :raises CapabilityMissing: if the actor is staff who may not ask for a close
    :raises PeriodNotFound: if the organisation has no such period
    :raises PeriodNotClosed: if it is not closing
    :raises PeriodOutOfOrder: if a later month is closing too, as after an import, or closed
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "call_off_closing",
        period_id,
        reason,
        prefix="per",
        acts_on=period_id,
    )
    accounts.require_capability(actor=actor, capability=CLOSE, organization_id=organization_id)
    period = _locked(organization_id, period_id)
    if claim.replayed:
        return period
    if period.state != PeriodState.CLOSING:
        raise errors.PeriodNotClosed("This month is not closing.", period=str(period))
    _refuse_earlier(organization_id, period.month)
    period.closing_after = None
    _move(period, PeriodState.OPEN, events.PeriodReopened, CLOSE, reason, actor, now)
    return period


@transactions.required
def prepare_reopen(*, organization_id: UUID, month: date) -> Period:
    """
    Return the month's row, locked and fit to be opened again.

    :raises PeriodOutOfOrder: if a later month is closed, and this one with it or before
    :raises PeriodNotFound: if the month was never closed
    :raises PeriodNotClosed: if it is open, or still closing
    """
    locked = queries.lock_periods(organization_id=organization_id)
    period = next((row for row in locked.values() if row.month == month), None)
    _refuse_earlier(organization_id, month)
    if period is None:
        raise errors.PeriodNotFound("This month was never closed.")
    _refuse_reopen(period)
    return period


def _refuse_reopen(period: Period) -> None:
    _refuse_earlier(period.organization_id, period.month)
    if period.state != PeriodState.CLOSED:
        raise errors.PeriodNotClosed("This month is not closed.", period=str(period))


def _refuse_earlier(organization_id: UUID, month: date) -> None:
    """Refuse to open a month before one that is closed: those stand on it."""
    last = queries.last_closed(organization_id=organization_id)
    if last is not None and last.month > month:
        raise errors.PeriodOutOfOrder("A later month is closed.", period=str(last))


@transactions.required
def reopen_period(
    *,
    organization_id: UUID,
    period_id: UUID,
    requested_by: str,
    approved_by: str,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Period:
    """
    Let a closed month take entries again; the trial balance that was stored stays under its number.

    The month says who asked, who agreed and why until it is closed once more; the trail for good.

    :raises TwoPeopleNeeded: if who asked and who agreed are one person
    :raises PeriodNotFound: if the organisation has no such period
    :raises PeriodNotClosed: if it is not closed
    :raises PeriodOutOfOrder: if a later month is closed
    """
    refuse_one_person(requested_by, approved_by)
    period = _locked(organization_id, period_id)
    _refuse_reopen(period)
    _name_reopening(period, requested_by, approved_by, reason)
    period.closed_at = period.closing_after = None
    _move(period, PeriodState.OPEN, events.PeriodReopened, REOPEN, reason, actor, now)
    return period


def _name_reopening(
    period: Period, requested_by: str = "", approved_by: str = "", reason: str = ""
) -> None:
    period.reopening_requested_by = requested_by
    period.reopening_approved_by = approved_by
    period.reopening_reason = reason


def _locked(organization_id: UUID, period_id: UUID) -> Period:
    found = queries.lock_periods(organization_id=organization_id).get(period_id)
    if found is None:
        raise errors.PeriodNotFound("There is no such period.")
    return found


def _move(
    period: Period,
    state: PeriodState,
    event: type[events.PeriodFrozen | events.PeriodClosed | events.PeriodReopened],
    act: str,
    reason: str,
    actor: Actor,
    now: datetime,
) -> None:
    before = period.state
    period.state = state.value
    asked, agreed = period.requested_by, period.approved_by
    if act == REOPEN:
        asked, agreed = period.reopening_requested_by, period.reopening_approved_by
    # Also the version by which a form, or the second step, sees that nothing happened meanwhile.
    period.event_sequence += 1
    period.save()
    audit.record(
        act,
        period,
        actor=actor,
        reason=reason,
        before={"period": str(period), "state": before},
        after={
            "state": period.state,
            "closings": period.closings,
            "requested_by": asked,
            "approved_by": agreed,
        },
    )
    outbox.publish(
        event(
            organization_id=period.organization_id,
            aggregate_id=encode_id("per", period.id),
            sequence=period.event_sequence,
            occurred_at=now,
            period=str(period),
            starts_at=period.starts_at,
            ends_at=period.ends_at,
            closings=period.closings,
        ),
        actor=actor,
        now=now,
    )
