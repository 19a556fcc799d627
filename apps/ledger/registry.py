"""
Who asks two people about the books: approvals lie above the ledger, which imports none of them.

The back office registers each; the ledger's own screens and API only call them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import UUID

from apps.core.actors import Actor
from apps.core.errors import InvariantBroken

if TYPE_CHECKING:
    from apps.ledger.operations import EntryRequest, ReversalTime


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What waits for a second person: the approval request, and its state."""

    approval_id: UUID
    state: str


class PeriodRequest(Protocol):
    """Ask for a month to be closed, or opened again."""

    def __call__(
        self,
        *,
        organization_id: UUID,
        month: date,
        reason: str,
        idempotency_key: str,
        actor: Actor,
        now: datetime,
    ) -> AskedFor: ...


class ReversalRequest(Protocol):
    """Ask for an entry to be undone."""

    def __call__(
        self,
        *,
        organization_id: UUID,
        entry_id: UUID,
        at: "ReversalTime",
        reason: str,
        idempotency_key: str,
        actor: Actor,
        now: datetime,
    ) -> AskedFor: ...


class AdjustmentRequest(Protocol):
    """Ask for an entry to be posted."""

    def __call__(
        self,
        *,
        organization_id: UUID,
        entry: "EntryRequest",
        reason: str,
        idempotency_key: str,
        actor: Actor,
        now: datetime,
    ) -> AskedFor: ...


class WaitingReversal(Protocol):
    """Return the approval that waits for any of these entries to be undone, or None."""

    def __call__(self, *, organization_id: UUID, entry_ids: Collection[UUID]) -> UUID | None: ...


_requests: dict[str, Any] = {}


def register_period_requests(*, close: PeriodRequest, reopen: PeriodRequest) -> None:
    """Have these called by who wants a month closed or opened again."""
    _requests.update(close=close, reopen=reopen)


def register_correction_requests(
    *, reverse: ReversalRequest, adjust: AdjustmentRequest, waiting: WaitingReversal
) -> None:
    """Have these called by who wants an entry undone, or one posted by hand, or to know of it."""
    _requests.update(reverse=reverse, adjust=adjust, waiting=waiting)


def request_close() -> PeriodRequest:
    return cast("PeriodRequest", _request("close"))


def request_reopen() -> PeriodRequest:
    return cast("PeriodRequest", _request("reopen"))


def request_reversal() -> ReversalRequest:
    return cast("ReversalRequest", _request("reverse"))


def request_adjustment() -> AdjustmentRequest:
    return cast("AdjustmentRequest", _request("adjust"))


def find_waiting_reversal() -> WaitingReversal:
    return cast("WaitingReversal", _request("waiting"))


def _request(name: str) -> object:
    try:
        return _requests[name]
    except KeyError:
        msg = "No app above the ledger asks two people about its books."
        raise InvariantBroken(msg) from None
