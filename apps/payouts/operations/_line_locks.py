"""What a booked line is about: its batch, payouts and attempts, found and locked in their order."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from apps.core import transactions
from apps.payouts import queries
from apps.payouts.models import Payout, PayoutAttempt, PayoutBatch
from apps.payouts.queries import AttemptView
from apps.payouts.rules import BankLineFact
from apps.payouts.states import AttemptState, BatchState


@dataclass(frozen=True)
class Locked:
    """What a line is about: its batch, attempts and payouts, locked and read after."""

    batch: PayoutBatch
    attempts: Sequence[PayoutAttempt]
    payouts: dict[UUID, Payout]

    @property
    def ids(self) -> tuple[UUID, ...]:
        return tuple(attempt.id for attempt in self.attempts)


@transactions.required
def lock_for_bank_lines(
    *,
    organization_id: UUID,
    attempts: Collection[AttemptView],
    batch_ids: Collection[UUID] = (),
    returned: Collection[UUID] = (),
) -> None:
    """
    Lock all that many lines will need before the first of them is posted.

    The lines name these `attempts`, whole batches (`batch_ids`), and returns of attempts
    (`returned`). Taken line by line, the second line's batch would be waited for with the first
    one's balances held: a circle with anybody who goes from batch to balances.
    """
    batches = queries.lock_batches(
        organization_id=organization_id,
        batch_ids={*batch_ids, *(one.batch_id for one in attempts)},
    )
    whole = [
        batch.id
        for batch in batches.values()
        # A file of which nobody knows is taken as sent by its first booked line, all of it.
        if batch.id in batch_ids or batch.state in {BatchState.EXPORTED, BatchState.UNKNOWN}
    ]
    payout_ids = {one.payout_id for one in attempts}
    payout_ids |= queries.payouts_in_batches(organization_id=organization_id, batch_ids=whole)
    payouts = queries.lock_payouts(organization_id=organization_id, payout_ids=payout_ids)
    coming_back = {one.payout_id for one in attempts if one.attempt_id in set(returned)}
    destination_ids = {payouts[id_].destination_id for id_ in coming_back}
    if destination_ids:
        # A return may close its destination, and that cancels what waits to go there.
        queries.lock_destinations(organization_id=organization_id, destination_ids=destination_ids)
        queries.lock_payouts_to(organization_id=organization_id, destination_ids=destination_ids)


def lock_line(organization_id: UUID, fact: BankLineFact, *, is_return: bool) -> Locked | None:
    """Return what the line is about, locked; None if it is nobody's, or its sums are others."""
    if fact.end_to_end_id:
        return _lock_one(organization_id, fact, is_return=is_return)
    references = [fact.payment_information_id, fact.message_id]
    names = [name for name in references if name]
    found = queries.find_batches(organization_id=organization_id, references=names)
    for name in names:
        if name in found:
            return _lock_whole(organization_id, found[name].batch_id, fact)
    return None


def _lock_one(organization_id: UUID, fact: BankLineFact, *, is_return: bool) -> Locked | None:
    view = queries.find_attempt(
        organization_id=organization_id, end_to_end_id=fact.end_to_end_id or ""
    )
    if view is None or view.bank_account_id != fact.bank_account_id:
        return None
    locked = _take(organization_id, view.batch_id, [view.payout_id])
    attempts = [one for one in locked.attempts if one.id == view.attempt_id]
    return (
        replace(locked, attempts=attempts) if _fits(attempts, fact, is_return=is_return) else None
    )


def _lock_whole(organization_id: UUID, batch_id: UUID, fact: BankLineFact) -> Locked | None:
    attempts = queries.list_batch_attempts(organization_id=organization_id, batch_id=batch_id)
    locked = _take(organization_id, batch_id, [one.payout_id for one in attempts])
    # A bank that books a batch as one line books what it did not refuse.
    paid = [one for one in locked.attempts if one.state != AttemptState.REJECTED]
    if locked.batch.bank_account_id != fact.bank_account_id or not paid:
        return None
    if sum(one.amount_minor for one in paid) != fact.amount_minor:
        return None
    same = locked.batch.currency == fact.currency
    return replace(locked, attempts=paid) if same else None


def _fits(attempts: Sequence[PayoutAttempt], fact: BankLineFact, *, is_return: bool) -> bool:
    """A debit is of exactly the attempt's amount; what comes back may have been charged for."""
    return all(
        one.currency == fact.currency and (is_return or one.amount_minor == fact.amount_minor)
        for one in attempts
    )


def _take(organization_id: UUID, batch_id: UUID, payout_ids: Sequence[UUID]) -> Locked:
    # Batch, then payouts: the order in which sender, janitor and inbox wait, too.
    batch = queries.get_batch_for_update(organization_id=organization_id, batch_id=batch_id)
    payouts = queries.lock_payouts(organization_id=organization_id, payout_ids=payout_ids)
    # Only theirs: a day's statement asks once per line, and a batch has ten thousand.
    attempts = queries.list_batch_attempts(
        organization_id=organization_id, batch_id=batch_id, payout_ids=list(payouts)
    )
    return Locked(batch=batch, attempts=attempts, payouts=payouts)


def reread(locked: Locked) -> Locked:
    """Return it as it is now, after the whole batch may have been moved."""
    payouts = queries.lock_payouts(
        organization_id=locked.batch.organization_id, payout_ids=list(locked.payouts)
    )
    attempts = queries.list_attempts_by_id(
        organization_id=locked.batch.organization_id, attempt_ids=list(locked.ids)
    )
    return replace(locked, attempts=attempts, payouts=payouts)
