"""What a bank line is taken for, and what its failure to be that is called: over values alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from apps.payouts.queries import AttemptView
from apps.payouts.rules import LineOutcome
from apps.reconciliation.states import BreakKind, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """
    What is matched: a line, or one of several transactions that add up to it.

    `amount_minor` has the line's sign: a credit to our account is positive.
    """

    line_id: UUID
    detail_id: UUID | None
    amount_minor: int
    currency: str
    booking_date: date
    is_return: bool
    end_to_end_id: str = ""
    payment_information_id: str = ""
    message_id: str = ""
    return_code: str = ""
    return_text: str = ""
    creditor_references: Sequence[str] = ()
    texts: Sequence[str] = ()
    sender_tail: str = ""
    sender_index: bytes | None = None

    @property
    def id(self) -> UUID:
        """What a target remembers of it: the detail where there is one, else the line."""
        return self.detail_id or self.line_id

    @property
    def is_credit(self) -> bool:
        return self.amount_minor > 0


def choose_rule(unit: Unit, *, attempts: Collection[str], batches: Collection[str]) -> Rule | None:
    """
    Return the first rule whose keys the unit carries, or None.

    `attempts` are the end-to-end ids, `batches` the message and payment ids that are known as ours.
    """
    if unit.is_credit:
        if unit.is_return and unit.end_to_end_id in attempts:
            return Rule.PAYOUT_RETURN
        return Rule.PAY_IN
    if unit.end_to_end_id in attempts:
        return Rule.PAYOUT
    # A line that books a whole batch carries the batch's ids and no payment's.
    names_batch = {unit.payment_information_id, unit.message_id} & set(batches)
    if names_batch and not unit.end_to_end_id:
        return Rule.PAYOUT_BATCH
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a unit stays in suspense, and whether it is tried again by itself."""

    kind: BreakKind
    is_parked: bool = False


PARKED = "parked"


def explain_failure(
    unit: Unit, outcome: LineOutcome, attempts: Mapping[str, AttemptView]
) -> Failure:
    """Name the break of a unit that named a payout of ours and was not taken for it."""
    view = attempts.get(unit.end_to_end_id)
    if outcome is LineOutcome.PARKED:
        return Failure(kind=BreakKind.BANK_ONLY, is_parked=True)
    if outcome is LineOutcome.SUPERSEDED:
        rejected = view is not None and view.state == "rejected" and not unit.is_credit
        return Failure(
            kind=BreakKind.REJECTED_BUT_BOOKED if rejected else BreakKind.DUPLICATE_AT_BANK
        )
    if view is None:
        return Failure(kind=BreakKind.BANK_ONLY)
    if view.currency != unit.currency:
        return Failure(kind=BreakKind.CURRENCY_DIFFERS)
    if view.amount_minor != abs(unit.amount_minor):
        return Failure(kind=BreakKind.AMOUNT_DIFFERS)
    return Failure(kind=BreakKind.BANK_ONLY)
