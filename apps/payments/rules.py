"""Whose money came in: over values alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from apps.banking.formats import references
from apps.payments.states import ReferenceState, UnmatchedReason


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingTransfer:
    """
    Money a bank line, or one transaction of it, brought. `amount_minor` is positive.

    `money_account_id` is the ledger account it stands on: the bank's, if this call is what posts
    the line; `suspense:in`, if the line was posted there as a whole before (`is_in_suspense`), by
    the entry `suspense_entry_id`.
    """

    bank_line_id: UUID
    bank_line_detail_id: UUID | None
    money_account_id: UUID
    amount_minor: int
    currency: str
    received_at: datetime
    creditor_references: Sequence[str] = ()
    texts: Sequence[str] = ()
    sender_tail: str = ""
    sender_index: bytes | None = None
    suspense_entry_id: UUID | None = None
    # A return that no payout took: its reference is the payout's, never a customer's.
    is_return: bool = False

    @property
    def is_in_suspense(self) -> bool:
        return self.suspense_entry_id is not None

    @property
    def places(self) -> tuple[tuple[str, ...], ...]:
        """Where a creditor reference may stand, each with its readings."""
        return references.places(self.creditor_references, self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownReference:
    """A virtual reference, and whether its customer can be paid under it now."""

    id: UUID
    reference: str
    customer_id: UUID
    ledger_account_id: UUID
    currency: str
    state: str
    customer_is_open: bool
    account_is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whose the money is, or why nobody knows; `candidates` are references it may be meant for."""

    owner: KnownReference | None = None
    reason: str = ""
    candidates: Sequence[UUID] = field(default_factory=tuple)


_REASONS = {
    "none": UnmatchedReason.NO_REFERENCE,
    "unknown": UnmatchedReason.UNKNOWN_REFERENCE,
    "ambiguous": UnmatchedReason.AMBIGUOUS_REFERENCE,
}


def decide_owner(transfer: IncomingTransfer, known: Mapping[str, KnownReference]) -> Verdict:
    """
    Say whose the money is: the one valid reference of ours it carries, if that can take it.

    `known` are virtual references by their text.
    """
    if transfer.is_return:
        return Verdict(reason=UnmatchedReason.UNMATCHED_RETURN)
    places = transfer.places
    found = references.choose(places, known)
    candidates = tuple(
        known[reading].id for place in places for reading in place if reading in known
    )
    if found.reference is None:
        return Verdict(reason=_REASONS[found.reason], candidates=candidates)
    owner = known[found.reference]
    reason = _unable(owner, transfer)
    if reason:
        return Verdict(reason=reason, candidates=candidates)
    return Verdict(owner=owner)


def _unable(owner: KnownReference, transfer: IncomingTransfer) -> str:
    if owner.currency != transfer.currency:
        return UnmatchedReason.CURRENCY_DIFFERS
    if owner.state != ReferenceState.ACTIVE:
        return UnmatchedReason.REFERENCE_DISABLED
    if not owner.customer_is_open:
        return UnmatchedReason.CUSTOMER_NOT_OPEN
    if not owner.account_is_open:
        return UnmatchedReason.LEDGER_ACCOUNT_NOT_OPEN
    return ""
