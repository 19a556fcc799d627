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

    id: str
    state: str
    customer: str
    destination: str
    external_id: str | None
    amount: int
    requested_amount: int
    fee: int
    returned_amount: int
    currency: str
    hold_reasons: list[str]
    available_at: datetime | None
    execution_date: date | None
    failure_code: str | None
    bank_code: str | None

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


@dataclass(frozen=True, kw_only=True)
class PayoutRequested(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.requested"


@dataclass(frozen=True, kw_only=True)
class PayoutHeld(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.held"


@dataclass(frozen=True, kw_only=True)
class PayoutApprovalRequired(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.approval_required"


@dataclass(frozen=True, kw_only=True)
class PayoutApproved(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.approved"


@dataclass(frozen=True, kw_only=True)
class PayoutScheduled(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.scheduled"


@dataclass(frozen=True, kw_only=True)
class PayoutBatched(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.batched"


@dataclass(frozen=True, kw_only=True)
class PayoutSubmitted(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.submitted"


@dataclass(frozen=True, kw_only=True)
class PayoutMarkedUnknown(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.marked_unknown"


@dataclass(frozen=True, kw_only=True)
class PayoutSettled(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.settled"


@dataclass(frozen=True, kw_only=True)
class PayoutPartlySettled(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.partly_settled"


@dataclass(frozen=True, kw_only=True)
class PayoutRejected(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.rejected"


@dataclass(frozen=True, kw_only=True)
class PayoutReturned(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.returned"


@dataclass(frozen=True, kw_only=True)
class PayoutDeclined(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.declined"


@dataclass(frozen=True, kw_only=True)
class PayoutDenied(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.denied"


@dataclass(frozen=True, kw_only=True)
class PayoutCanceled(PayoutEvent):
    name: ClassVar[str] = "payouts.payout.canceled"


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

    id: str
    customer: str
    state: str
    currency: str
    country: str
    iban_tail: str
    usable_from: datetime
    reason: str | None

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
    name: ClassVar[str] = "payouts.destination.created"


@dataclass(frozen=True, kw_only=True)
class DestinationVerified(DestinationEvent):
    name: ClassVar[str] = "payouts.destination.verified"


@dataclass(frozen=True, kw_only=True)
class DestinationSuspended(DestinationEvent):
    name: ClassVar[str] = "payouts.destination.suspended"


@dataclass(frozen=True, kw_only=True)
class DestinationDisabled(DestinationEvent):
    name: ClassVar[str] = "payouts.destination.disabled"


@dataclass(frozen=True, kw_only=True)
class PayoutBatchMoved(Event):
    """A batch entered a state; for staff only."""

    name: ClassVar[str] = "payouts.payout_batch.moved"
    public: ClassVar[bool] = False
    aggregate_type: ClassVar[str] = "payout_batch"

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
