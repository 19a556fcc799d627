"""What approvals tells the house: for staff only, clients hear of their own payout."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Self

from apps.core.events import Event
from apps.core.ids import encode_id

if TYPE_CHECKING:
    from apps.approvals.models import ApprovalRequest


@dataclass(frozen=True, kw_only=True)
class ApprovalEvent(Event):
    """The common part: which request, about what, how far it is."""

    public: ClassVar[bool] = False
    aggregate_type: ClassVar[str] = "approval"
    example: ClassVar[dict[str, object]] = {
        "act": "payouts.send",
        "subject_type": "payout",
        "subject_id": "019abd4f-f5c5-7816-be0f-6f0a6ac01f4a",
        "state": "open",
    }

    act: str
    subject_type: str
    subject_id: str
    state: str

    @classmethod
    def of(cls, request: "ApprovalRequest", *, now: datetime) -> Self:
        """Take the snapshot of a request as it is after the change."""
        return cls(
            organization_id=request.organization_id,
            aggregate_id=encode_id("apr", request.id),
            occurred_at=now,
            act=request.act,
            subject_type=request.subject_type,
            subject_id=str(request.subject_id),
            state=request.state,
        )


@dataclass(frozen=True, kw_only=True)
class ApprovalRequested(ApprovalEvent):
    name: ClassVar[str] = "approvals.approval.requested"


@dataclass(frozen=True, kw_only=True)
class ApprovalDecided(ApprovalEvent):
    name: ClassVar[str] = "approvals.approval.decided"


@dataclass(frozen=True, kw_only=True)
class ApprovalClosed(ApprovalEvent):
    name: ClassVar[str] = "approvals.approval.closed"
