"""The audit trail: who did what to what, why, before and after. Append-only."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from django.db.models import Model

from apps.core import context, transactions
from apps.core.actors import Actor
from apps.core.models import AuditEvent

# A statement has 65,535 parameters at most.
_ROWS_A_STATEMENT: Final = 1_000


def record(
    act: str,
    subject: Model | tuple[str, str],
    *,
    organization_id: UUID | None = None,
    actor: Actor,
    reason: str = "",
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """Write one row of the trail, as `row` makes it, in the transaction of the act."""
    transactions.current()
    row(
        act,
        subject,
        organization_id=organization_id,
        actor=actor,
        reason=reason,
        before=before,
        after=after,
    ).save(force_insert=True)


def record_all(rows: Sequence[AuditEvent]) -> None:
    """Write these rows of the trail in the transaction of their acts, a thousand a statement."""
    transactions.current()
    AuditEvent.objects.bulk_create(rows, batch_size=_ROWS_A_STATEMENT)


def row(
    act: str,
    subject: Model | tuple[str, str],
    *,
    organization_id: UUID | None = None,
    actor: Actor,
    reason: str = "",
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
    request_id: str | None = None,
) -> AuditEvent:
    """
    Return one row of the trail, not written yet.

    `act` is the capability's name (`payouts.cancel_payout`); `before` and `after` are masked
    values. The organisation is the subject's, where it has one. `request_id` is the current one,
    unless the row is written on behalf of another request.
    """
    kind, id_ = subject if isinstance(subject, tuple) else (subject._meta.label_lower, subject.pk)
    return AuditEvent(
        organization_id=organization_id or getattr(subject, "organization_id", None),
        actor_kind=actor.kind,
        actor_id=actor.id,
        principal=actor.principal,
        act=act,
        subject_type=kind,
        subject_id=str(id_),
        reason=reason,
        request_id=context.current().request_id if request_id is None else request_id,
        before=before,
        after=after,
    )
