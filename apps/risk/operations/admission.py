"""Admitting an act: hard limits are checked and counted under one lock, so none is raced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core import transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.risk import queries
from apps.risk.errors import LimitExceeded
from apps.risk.models import Decision, Fact, Limit, LimitScope
from apps.risk.rules import (
    FACT_MOVES,
    FactState,
    LimitCheck,
    Outcome,
    binding,
    explain,
)

# Rises when the meaning of a stored decision changes.
ENGINE_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Admission:
    """An act that asks to be let in. The subject's id may be of something not yet written."""

    kind: str
    subject_type: str
    subject_id: UUID
    customer_id: UUID
    amount_minor: int
    currency: str
    trigger: str = "requested"
    turn: int = 0
    destination_fingerprint: bytes | None = None


@transactions.required
def admit(*, organization_id: UUID, admission: Admission, actor: Actor, now: datetime) -> UUID:
    """
    Count an act against every limit that applies, and return the decision's id.

    Called before balances are locked. A later refusal in the same transaction takes the count
    back; a refusal by a limit is stored, with the fact of the try, in a transaction of its own.

    :raises LimitExceeded: naming the limit with the least left
    """
    # The customer's row is locked whether or not a limit exists: one may be set meanwhile. The
    # organization's would put all its acts in one line, so only a limit of its own is worth it.
    scopes = {("customer", admission.customer_id), ("organization", organization_id)}
    wide = _has_organization_limit(organization_id, admission)
    queries.lock_scopes(
        organization_id=organization_id,
        scopes=[scope for scope in scopes if wide or scope[0] == "customer"],
    )
    limits = queries.list_limits(
        organization_id=organization_id,
        act=admission.kind,
        currency=admission.currency,
        customer_id=admission.customer_id,
    )
    checks = [_check(limit, admission, now) for limit in limits]
    refusing = binding(checks)
    decision = _decision(organization_id, admission, checks, refusing is None, actor=actor, now=now)
    if refusing is not None:
        transactions.on_refusal(_writer(decision, admission, actor=actor, now=now))
        raise LimitExceeded(
            "This exceeds a limit.",
            limit=_explained(refusing),
            decision=encode_id("dec", decision.id),
        )
    decision.save(force_insert=True)
    _fact(decision, admission, FactState.OPEN, actor=actor, now=now).save(force_insert=True)
    return decision.id


def _has_organization_limit(organization_id: UUID, admission: Admission) -> bool:
    limits = queries.list_limits(
        organization_id=organization_id, act=admission.kind, currency=admission.currency
    )
    return any(limit.scope == LimitScope.ORGANIZATION for limit in limits)


def _check(limit: Limit, admission: Admission, now: datetime) -> LimitCheck:
    return queries.check_limit(
        limit=limit,
        customer_id=admission.customer_id,
        requested_minor=admission.amount_minor,
        instant=now,
    )


def _explained(one: LimitCheck) -> dict[str, str | int | None]:
    return {**explain(one), "id": encode_id("lim", one.terms.limit_id)}


def _decision(
    organization_id: UUID,
    admission: Admission,
    checks: Sequence[LimitCheck],
    passes: bool,  # noqa: FBT001  (the one thing a decision says)
    *,
    actor: Actor,
    now: datetime,
) -> Decision:
    return Decision(
        id=new_id(),
        organization_id=organization_id,
        kind=admission.kind,
        subject_type=admission.subject_type,
        subject_id=admission.subject_id,
        trigger=admission.trigger,
        outcome=Outcome.APPROVE if passes else Outcome.DECLINE,
        public_code="" if passes else LimitExceeded.code,
        customer_id=admission.customer_id,
        amount_minor=admission.amount_minor,
        currency=admission.currency,
        limits=[_explained(one) for one in checks],
        engine_version=ENGINE_VERSION,
        actor=str(actor),
        decided_at=now,
    )


def _fact(
    decision: Decision, admission: Admission, state: FactState, *, actor: Actor, now: datetime
) -> Fact:
    return Fact(
        organization_id=decision.organization_id,
        subject_type=admission.subject_type,
        subject_id=admission.subject_id,
        turn=admission.turn,
        kind=admission.kind,
        state=state,
        amount_minor=admission.amount_minor,
        currency=admission.currency,
        customer_id=admission.customer_id,
        destination_fingerprint=admission.destination_fingerprint,
        actor=str(actor),
        occurred_at=now,
    )


def _writer(
    decision: Decision, admission: Admission, *, actor: Actor, now: datetime
) -> transactions.RefusalWriter:
    """Return what keeps a refused try: its decision, explained, and its fact."""

    def write(_refusal: Refusal) -> bool:
        decision.save(force_insert=True)
        _fact(decision, admission, FactState.REFUSED, actor=actor, now=now).save(force_insert=True)
        return False

    return write


@transactions.required
def record_fact_states(
    *,
    organization_id: UUID,
    subject_type: str,
    returned: Mapping[UUID, int],
    state: FactState,
) -> None:
    """
    Follow acts (the keys) to one state in the transaction of their change; what is further stays.

    The values are what came back of each in all, in minor units; 0 where nothing did. The same
    state twice is nothing.
    """
    before = [old.value for old, news in FACT_MOVES.items() if state in news]
    facts = Fact.objects.filter(organization_id=organization_id, subject_type=subject_type)
    moved = facts.filter(subject_id__in=returned, state__in=before)
    if not any(returned.values()):
        moved.update(state=state)
        return
    for subject_id, minor in returned.items():
        moved.filter(subject_id=subject_id).update(state=state, returned_minor=minor)
