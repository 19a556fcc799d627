"""The audit trail: who did what to what, why, before and after. Append-only."""

import json
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from django.db.models import Model

from apps.core import context, statements, transactions
from apps.core.actors import Actor
from apps.core.models import AuditEvent

# Not through the ORM, which spells each value of each row out: of thousands that takes longer than
# their act. What is the same in all of them travels once.
_WRITE_ALL: Final = """
    INSERT INTO core_audit_event
        (id, organization_id, actor_kind, actor_id, principal, act, subject_type, subject_id,
         reason, request_id, before, after, outcome, code)
    SELECT a.id, a.organization_id, a.actor_kind, a.actor_id, a.principal, a.act, a.subject_type,
           a.subject_id, a.reason, a.request_id, a.before::jsonb, a.after::jsonb, a.outcome, a.code
      FROM unnest(%(id)s::uuid[], %(organization_id)s::uuid[], %(subject_id)s::text[],
                  %(after)s::text[],
                  /* same */ %(actor_kind)s::text[], %(actor_id)s::text[], %(principal)s::text[],
                  %(reason)s::text[], %(request_id)s::text[],
                  /* same */ %(act)s::text[], %(subject_type)s::text[], %(before)s::text[],
                  %(outcome)s::text[], %(code)s::text[])
           AS a(id, organization_id, subject_id, after, actor_kind, actor_id, principal, reason,
                request_id, act, subject_type, before, outcome, code)
"""
_IDS: Final = ("id", "organization_id")
_TEXTS: Final = (
    "actor_kind", "actor_id", "principal", "act", "subject_type", "subject_id", "reason",
    "request_id", "outcome", "code",
)  # fmt: skip
_OBJECTS: Final = ("before", "after")


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
    """Write these rows of the trail in the transaction of their acts, by one statement."""
    transactions.current()
    if rows:
        statements.send(
            _WRITE_ALL,
            {name: statements.uuids([getattr(row, name) for row in rows]) for name in _IDS}
            | {name: statements.texts([getattr(row, name) for row in rows]) for name in _TEXTS}
            | {name: statements.texts([_text(row, name) for row in rows]) for name in _OBJECTS},
        )


def _text(row: AuditEvent, name: str) -> str | None:
    value = getattr(row, name)
    return None if value is None else json.dumps(value)


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
