"""
Who asks two people about the books: approvals lie above the ledger, which imports none of them.

The back office registers each; the ledger's own screens and API only call them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol
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


@dataclass(frozen=True, slots=True)
class ByHand:
    """The correction that posted an entry: who asked for it and who agreed, and when."""

    correction_id: UUID
    requested_by: str
    requested_at: datetime
    approved_by: str
    approved_at: datetime


@dataclass(frozen=True, slots=True)
class Corrections:
    """Of an entry: the approval that its reversal waits for, and the correction that posted it."""

    waiting_approval_id: UUID | None
    by_hand: ByHand | None


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


class WaitingPeriodRequest(Protocol):
    """Return what waits at `now` for a month to be closed or opened again; None if nothing does."""

    def __call__(
        self, *, organization_id: UUID, period_id: UUID, now: datetime
    ) -> AskedFor | None: ...


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


class EntryCorrections(Protocol):
    """
    Return what waits to undo any of these entries, and who had one posted by hand.

    That is the correction that posted `posted_id`, or else the one by which `undone_id` was undone.
    """

    def __call__(
        self,
        *,
        organization_id: UUID,
        entry_ids: Collection[UUID],
        posted_id: UUID | None = None,
        undone_id: UUID | None = None,
    ) -> Corrections: ...


_requests: dict[str, Any] = {}


def register_period_requests(
    *, close: PeriodRequest, reopen: PeriodRequest, asked: WaitingPeriodRequest
) -> None:
    """Have these called by who wants a month closed or opened again, or to know of it."""
    _requests.update(close=close, reopen=reopen, asked=asked)


def register_correction_requests(
    *, reverse: ReversalRequest, adjust: AdjustmentRequest, found: EntryCorrections
) -> None:
    """Have these called by who wants an entry undone, or one posted by hand, or to know of it."""
    _requests.update(reverse=reverse, adjust=adjust, found=found)


def _whoever(name: str, asks: Any) -> Any:  # noqa: ANN401  (as declared below)
    """Return what calls whoever registered under the name, and shows what that takes."""

    # Screens look at the signature to see what an act is told.
    @wraps(vars(asks)["__call__"])
    def call(**asked: object) -> object:
        if name not in _requests:
            msg = "No app above the ledger asks two people about its books."
            raise InvariantBroken(msg)
        return _requests[name](**asked)

    return call


request_close: PeriodRequest = _whoever("close", PeriodRequest)
request_reopen: PeriodRequest = _whoever("reopen", PeriodRequest)
find_waiting_period_request: WaitingPeriodRequest = _whoever("asked", WaitingPeriodRequest)
request_reversal: ReversalRequest = _whoever("reverse", ReversalRequest)
request_adjustment: AdjustmentRequest = _whoever("adjust", AdjustmentRequest)
find_corrections: EntryCorrections = _whoever("found", EntryCorrections)
