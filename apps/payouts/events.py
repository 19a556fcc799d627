"""What payouts tells the world: a snapshot of the payout or destination as the change left it."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, ClassVar, Final, Self

from apps.core.events import Event
from apps.core.ids import encode_id
from apps.payouts.states import PayoutState

if TYPE_CHECKING:
    from apps.payouts.models import Destination, DestinationVersion, Payout, PayoutBatch


@dataclass(frozen=True, kw_only=True)
class PayoutEvent(Event):
    """The common part of every payout event; amounts in minor units of `currency`."""

    aggregate_type: ClassVar[str] = "payout"
    read_scope: ClassVar[str] = "payouts:read"
    example: ClassVar[dict[str, object]] = {
        "id": "po_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "state": "requested",
        "customer": "cus_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "destination": "dst_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "external_id": "salary-2026-11",
        "amount": 100_00,
        "requested_amount": 100_00,
        "fee": 25,
        "returned_amount": 0,
        "currency": "EUR",
        "hold_reasons": [],
        "available_at": None,
        "execution_date": None,
        "failure_code": None,
        "bank_code": None,
    }

    id: str
    state: str
    customer: str
    destination: str
    "Where it goes."
    external_id: str | None
    amount: int
    "What the customer gives up, in minor units of `currency`; the fee is apart."
    requested_amount: int
    "What was asked for: never less than `amount`."
    fee: int
    "What the payout costs, beside `amount`."
    returned_amount: int
    "What the bank sent back."
    currency: str
    hold_reasons: list[str]
    "What it waits for while it is held."
    available_at: datetime | None
    "When a cooldown lets it go on."
    execution_date: date | None
    "The day on which the bank is to send it."
    failure_code: str | None
    "Why it did not get there, in our words."
    bank_code: str | None
    "Why, as the bank's code has it."

    @classmethod
    def of(cls, payout: "Payout", *, now: datetime) -> Self:
        """Take the snapshot of a payout as it is after the change."""
        return cls(
            organization_id=payout.organization_id,
            aggregate_id=encode_id("po", payout.id),
            sequence=payout.event_sequence,
            occurred_at=now,
            id=encode_id("po", payout.id),
            state=payout.state,
            customer=encode_id("cus", payout.customer_id),
            destination=encode_id("dst", payout.destination_id),
            external_id=payout.external_id,
            amount=payout.amount_minor,
            requested_amount=payout.requested_amount_minor,
            fee=payout.fee_minor,
            returned_amount=payout.returned_minor,
            currency=payout.currency,
            hold_reasons=list(payout.hold_reasons),
            available_at=payout.available_at,
            execution_date=payout.execution_date,
            failure_code=payout.failure_code or None,
            bank_code=payout.bank_code or None,
        )


# Of one that leaves, or has left, on its day.
_DATED: Final = PayoutEvent.example | {"execution_date": "2026-11-03"}


@dataclass(frozen=True, kw_only=True)
class PayoutRequested(PayoutEvent):
    """A payout was asked for; its money is reserved."""

    name: ClassVar[str] = "payouts.payout.requested"


@dataclass(frozen=True, kw_only=True)
class PayoutHeld(PayoutEvent):
    """A payout waits: `hold_reasons` says for what."""

    name: ClassVar[str] = "payouts.payout.held"
    example: ClassVar[dict[str, object]] = PayoutEvent.example | {
        "state": "held",
        "hold_reasons": ["cooldown"],
        "available_at": "2026-11-03T09:30:00Z",
    }


@dataclass(frozen=True, kw_only=True)
class PayoutApprovalRequired(PayoutEvent):
    """A payout waits for a second person's word."""

    name: ClassVar[str] = "payouts.payout.approval_required"
    example: ClassVar[dict[str, object]] = PayoutEvent.example | {"state": "pending_approval"}


@dataclass(frozen=True, kw_only=True)
class PayoutApproved(PayoutEvent):
    """A payout may leave."""

    name: ClassVar[str] = "payouts.payout.approved"
    example: ClassVar[dict[str, object]] = PayoutEvent.example | {"state": "approved"}


@dataclass(frozen=True, kw_only=True)
class PayoutScheduled(PayoutEvent):
    """A payout has the day on which it leaves."""

    name: ClassVar[str] = "payouts.payout.scheduled"
    example: ClassVar[dict[str, object]] = _DATED | {"state": "scheduled"}


@dataclass(frozen=True, kw_only=True)
class PayoutBatched(PayoutEvent):
    """A payout is in a file for the bank, and can no longer be stopped."""

    name: ClassVar[str] = "payouts.payout.batched"
    example: ClassVar[dict[str, object]] = _DATED | {"state": "batched"}


@dataclass(frozen=True, kw_only=True)
class PayoutSubmitted(PayoutEvent):
    """The bank has the file."""

    name: ClassVar[str] = "payouts.payout.submitted"
    example: ClassVar[dict[str, object]] = _DATED | {"state": "submitted"}


@dataclass(frozen=True, kw_only=True)
class PayoutMarkedUnknown(PayoutEvent):
    """Whether the bank has the file is not known; it is not sent again."""

    name: ClassVar[str] = "payouts.payout.marked_unknown"
    example: ClassVar[dict[str, object]] = _DATED | {"state": "unknown"}


@dataclass(frozen=True, kw_only=True)
class PayoutSettled(PayoutEvent):
    """A line of the bank statement shows that the money left."""

    name: ClassVar[str] = "payouts.payout.settled"
    example: ClassVar[dict[str, object]] = _DATED | {"state": "settled"}


@dataclass(frozen=True, kw_only=True)
class PayoutPartlySettled(PayoutEvent):
    """A part of it left; what did not is neither sent again nor given back yet."""

    name: ClassVar[str] = "payouts.payout.partly_settled"
    example: ClassVar[dict[str, object]] = _DATED | {"state": "partly_settled"}


@dataclass(frozen=True, kw_only=True)
class PayoutRejected(PayoutEvent):
    """The bank refused it before money moved."""

    name: ClassVar[str] = "payouts.payout.rejected"
    example: ClassVar[dict[str, object]] = _DATED | {
        "state": "rejected",
        "failure_code": "bank_rejected",
        "bank_code": "AC01",
    }


@dataclass(frozen=True, kw_only=True)
class PayoutReturned(PayoutEvent):
    """The money was sent back after it had left."""

    name: ClassVar[str] = "payouts.payout.returned"
    example: ClassVar[dict[str, object]] = _DATED | {
        "state": "returned",
        "returned_amount": 100_00,
        "failure_code": "bank_returned",
        "bank_code": "AC04",
    }


@dataclass(frozen=True, kw_only=True)
class PayoutDeclined(PayoutEvent):
    """Our own checks declined it; its money is available again."""

    name: ClassVar[str] = "payouts.payout.declined"
    example: ClassVar[dict[str, object]] = PayoutEvent.example | {
        "state": "declined",
        "failure_code": "risk_declined",
    }


@dataclass(frozen=True, kw_only=True)
class PayoutDenied(PayoutEvent):
    """The second person said no; its money is available again."""

    name: ClassVar[str] = "payouts.payout.denied"
    example: ClassVar[dict[str, object]] = PayoutEvent.example | {
        "state": "denied",
        "failure_code": "approval_denied",
    }


@dataclass(frozen=True, kw_only=True)
class PayoutCanceled(PayoutEvent):
    """It was called off in time, and its money is available again."""

    name: ClassVar[str] = "payouts.payout.canceled"
    example: ClassVar[dict[str, object]] = PayoutEvent.example | {"state": "canceled"}


# The event of entering each state; every move of a payout publishes exactly one.
OF_STATE: Final[dict[PayoutState, type[PayoutEvent]]] = {
    PayoutState.REQUESTED: PayoutRequested,
    PayoutState.HELD: PayoutHeld,
    PayoutState.PENDING_APPROVAL: PayoutApprovalRequired,
    PayoutState.APPROVED: PayoutApproved,
    PayoutState.SCHEDULED: PayoutScheduled,
    PayoutState.BATCHED: PayoutBatched,
    PayoutState.SUBMITTED: PayoutSubmitted,
    PayoutState.UNKNOWN: PayoutMarkedUnknown,
    PayoutState.SETTLED: PayoutSettled,
    PayoutState.PARTLY_SETTLED: PayoutPartlySettled,
    PayoutState.REJECTED: PayoutRejected,
    PayoutState.RETURNED: PayoutReturned,
    PayoutState.DECLINED: PayoutDeclined,
    PayoutState.DENIED: PayoutDenied,
    PayoutState.CANCELED: PayoutCanceled,
}


@dataclass(frozen=True, kw_only=True)
class DestinationEvent(Event):
    """The common part of every destination event."""

    aggregate_type: ClassVar[str] = "destination"
    read_scope: ClassVar[str] = "payouts:read"
    example: ClassVar[dict[str, object]] = {
        "id": "dst_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "customer": "cus_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "state": "unverified",
        "currency": "EUR",
        "country": "DE",
        "iban_tail": "3000",
        "usable_from": "2026-11-03T09:30:00Z",
        "reason": None,
    }

    id: str
    customer: str
    state: str
    currency: str
    country: str
    "Of the account, ISO 3166."
    iban_tail: str
    "The last digits of the account's number."
    usable_from: datetime
    "The end of its cooldown: nothing is paid to it before."
    reason: str | None
    "Why it is in this state."

    @classmethod
    def of(
        cls, destination: "Destination", version: "DestinationVersion", *, now: datetime
    ) -> Self:
        """Take the snapshot of a destination as it is after the change."""
        return cls(
            organization_id=destination.organization_id,
            aggregate_id=encode_id("dst", destination.id),
            sequence=destination.event_sequence,
            occurred_at=now,
            id=encode_id("dst", destination.id),
            customer=encode_id("cus", destination.customer_id),
            state=destination.state,
            currency=version.currency,
            country=version.country,
            iban_tail=version.iban_tail,
            usable_from=version.usable_from,
            reason=destination.state_reason or None,
        )


@dataclass(frozen=True, kw_only=True)
class DestinationCreated(DestinationEvent):
    """A bank account was given; nothing is paid to it before `usable_from`."""

    name: ClassVar[str] = "payouts.destination.created"


@dataclass(frozen=True, kw_only=True)
class DestinationVerified(DestinationEvent):
    """A destination is known to be the customer's."""

    name: ClassVar[str] = "payouts.destination.verified"
    example: ClassVar[dict[str, object]] = DestinationEvent.example | {
        "state": "verified",
        "reason": "payee_not_checked",
    }


@dataclass(frozen=True, kw_only=True)
class DestinationSuspended(DestinationEvent):
    """Nothing is paid to a destination until staff say otherwise."""

    name: ClassVar[str] = "payouts.destination.suspended"
    example: ClassVar[dict[str, object]] = DestinationEvent.example | {"state": "suspended"}


@dataclass(frozen=True, kw_only=True)
class DestinationDisabled(DestinationEvent):
    """Nothing is ever paid to a destination again."""

    name: ClassVar[str] = "payouts.destination.disabled"
    example: ClassVar[dict[str, object]] = DestinationEvent.example | {
        "state": "disabled",
        "reason": "disabled_on_request",
    }


@dataclass(frozen=True, kw_only=True)
class PayoutBatchMoved(Event):
    """A batch entered a state; for staff only."""

    name: ClassVar[str] = "payouts.payout_batch.moved"
    public: ClassVar[bool] = False
    aggregate_type: ClassVar[str] = "payout_batch"
    example: ClassVar[dict[str, object]] = {
        "id": "pb_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "state": "submitted",
        "message_id": "KASSA-20261103-1",
        "count": 214,
        "total": 21_400_00,
        "currency": "EUR",
        "execution_date": "2026-11-03",
    }

    id: str
    state: str
    message_id: str
    count: int
    total: int
    currency: str
    execution_date: date

    @classmethod
    def of(cls, batch: "PayoutBatch", *, now: datetime) -> Self:
        """Take the snapshot of a batch as it is after the change."""
        return cls(
            organization_id=batch.organization_id,
            aggregate_id=encode_id("pb", batch.id),
            occurred_at=now,
            id=encode_id("pb", batch.id),
            state=batch.state,
            message_id=batch.message_id,
            count=batch.attempt_count,
            total=batch.total_minor,
            currency=batch.currency,
            execution_date=batch.execution_date,
        )
