"""
Who asks two people about a month: approvals lie above the ledger, which imports none of them.

The back office registers both; the ledger's own screens and API only call them.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

from apps.core.actors import Actor
from apps.core.errors import InvariantBroken


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


_requests: dict[str, PeriodRequest] = {}


def register_period_requests(*, close: PeriodRequest, reopen: PeriodRequest) -> None:
    """Have these called by who wants a month closed or opened again."""
    _requests.update(close=close, reopen=reopen)


def request_close() -> PeriodRequest:
    return _request("close")


def request_reopen() -> PeriodRequest:
    return _request("reopen")


def _request(name: str) -> PeriodRequest:
    try:
        return _requests[name]
    except KeyError:
        msg = "No app above the ledger asks two people about its months."
        raise InvariantBroken(msg) from None
