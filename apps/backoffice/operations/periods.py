"""
Asking two people to close a month of the books, or to open it again.

It lies here because the ledger knows no approvals: this app sees both. The ledger refuses for
itself if the two are one person.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from uuid import UUID

import structlog

from apps.accounts import queries as accounts
from apps.accounts.roles import Role
from apps.approvals import queries as requests
from apps.approvals import registry
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import Facts, Policy, Step
from apps.backoffice import errors
from apps.backoffice.operations._asking import asked_before, open_request, refuse_second
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.wall_clock import wall_text
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from apps.ledger.registry import AskedFor

log = structlog.stdlib.get_logger("kassa.backoffice")

CLOSE_ACT = "ledger.close_period"
REOPEN_ACT = "ledger.reopen_period"


@transactions.outermost
def request_period_close(
    *,
    organization_id: UUID,
    month: date,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> AskedFor:
    """
    Ask for a month to be closed; it is, once another person agrees.

    Replaying the key returns the request as it is now.

    :raises CapabilityMissing: if the actor is staff who may not ask for it
    :raises PeriodNotOver: if the month ended less than an hour ago, or not yet
    :raises PeriodOutOfOrder: if an earlier month is open
    :raises PeriodClosing: if it, or the month before it, is closing
    :raises PeriodClosedAlready: if it is closed
    :raises PeriodAskedForAlready: if a request for it waits already
    :raises TwoPeopleNeeded: if the policy in force asks nobody else
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "request_period_close", month, reason, prefix="apr"
    )
    if claim.replayed:
        return asked_before(organization_id, claim.resource_id)
    accounts.require_capability(actor=actor, capability=CLOSE_ACT, organization_id=organization_id)
    period = ledger.prepare_close(organization_id=organization_id, month=month, now=now)
    return _ask(
        CLOSE_ACT,
        organization_id=organization_id,
        period_id=period.id,
        reason=reason,
        idempotency_key=idempotency_key,
        actor=actor,
        now=now,
    )


@transactions.outermost
def request_period_reopen(
    *,
    organization_id: UUID,
    month: date,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> AskedFor:
    """
    Ask for the last closed month to be opened again; it is, once another person agrees.

    Replaying the key returns the request as it is now.

    :raises CapabilityMissing: if the actor is staff who may not ask for it
    :raises PeriodOutOfOrder: if a later month is closed, and this one with it or before
    :raises PeriodNotFound: if the month was never closed
    :raises PeriodNotClosed: if it is open, or still closing
    :raises PeriodAskedForAlready: if a request for it waits already
    :raises TwoPeopleNeeded: if the policy in force asks nobody else
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "request_period_reopen", month, reason, prefix="apr"
    )
    if claim.replayed:
        return asked_before(organization_id, claim.resource_id)
    accounts.require_capability(actor=actor, capability=REOPEN_ACT, organization_id=organization_id)
    period = ledger.prepare_reopen(organization_id=organization_id, month=month)
    return _ask(
        REOPEN_ACT,
        organization_id=organization_id,
        period_id=period.id,
        reason=reason,
        idempotency_key=idempotency_key,
        actor=actor,
        now=now,
    )


def _ask(
    act: str,
    *,
    organization_id: UUID,
    period_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> AskedFor:
    """Open the request; the period is locked by the caller, so nobody opens another meanwhile."""
    refuse_second(
        act,
        errors.PeriodAskedForAlready,
        organization_id=organization_id,
        subject_id=period_id,
        now=now,
    )
    request = open_request(
        act,
        organization_id=organization_id,
        subject_id=period_id,
        idempotency_key=idempotency_key,
        actor=actor,
        now=now,
    )
    audit.record(
        act,
        ("ledger.period", str(period_id)),
        organization_id=organization_id,
        actor=actor,
        reason=reason,
        after={"approval": encode_id("apr", request.id)},
    )
    return AskedFor(request.id, request.state)


# --- What approvals asks of us ------------------------------------------------------------------


def register_period_acts() -> None:
    """Make both acts known: by default one person who may decide them has to agree."""
    for name, verb, conclude in (
        (CLOSE_ACT, "Close", ledger.begin_closing),
        (REOPEN_ACT, "Open again", ledger.reopen_period),
    ):
        registry.register(
            Act(
                name=name,
                subject_type="period",
                capability=name,
                default_policy=Policy(otherwise=(Step(Role.FINANCE_APPROVER, 1),)),
                lock=_lock,
                snapshot=_snapshot,
                facts=lambda _organization_id, _period_id: Facts(),
                describe=partial(_describe, verb),
                on_approved=partial(_on_approved, conclude),
                on_denied=_on_ended,
                on_expired=_on_ended,
            )
        )


def _lock(organization_id: UUID, _period_id: UUID) -> None:
    books.lock_periods(organization_id=organization_id)


def _snapshot(organization_id: UUID, period_id: UUID) -> dict[str, object]:
    period = books.get_period(organization_id=organization_id, period_id=period_id)
    return {
        "organization": encode_id("org", organization_id),
        "month": str(period),
        "state": period.state,
        "closings": period.closings,
    }


def _describe(
    verb: str, organization_id: UUID, period_ids: Sequence[UUID]
) -> dict[UUID, Mapping[str, str]]:
    return {
        period.id: {
            "title": f"{verb} {period.month:%B %Y}",
            "from": wall_text(period.starts_at, zone=period.organization.time_zone),
            "until": wall_text(period.ends_at, zone=period.organization.time_zone),
        }
        for period in books.periods(organization_id=organization_id, ids=period_ids)
    }


def _on_approved(conclude: Callable[..., object], told: Resolution) -> None:
    request = requests.get_request(organization_id=told.organization_id, request_id=told.request_id)
    conclude(
        organization_id=told.organization_id,
        period_id=told.subject_id,
        requested_by=request.requester_principal,
        approved_by=told.actor.principal,
        reason=told.reason,
        actor=told.actor,
        now=told.now,
    )


def _on_ended(told: Resolution) -> None:
    """Leave the month as it is: nothing was changed by asking."""
    log.info("period_stays", period_id=str(told.subject_id))
