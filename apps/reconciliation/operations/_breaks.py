"""Opening and resolving breaks, many at a time."""

from collections.abc import Sequence
from datetime import datetime

from apps.core import outbox
from apps.core.actors import Actor
from apps.core.copying import copy_rows
from apps.core.ids import encode_id
from apps.reconciliation import events
from apps.reconciliation.models import Break
from apps.reconciliation.states import BreakState, Resolution


def open_breaks(breaks: Sequence[Break], *, actor: Actor, now: datetime) -> None:
    """Write new breaks; their lines and statements are new, so none stands for the same cause."""
    for one in breaks:
        one.event_sequence = 1
    copy_rows(breaks)
    for one in breaks:
        outbox.publish(
            events.BreakOpened(
                organization_id=one.organization_id,
                aggregate_id=encode_id("brk", one.id),
                sequence=1,
                occurred_at=now,
                id=encode_id("brk", one.id),
                kind=one.kind,
                bank_account=encode_id("ba", one.bank_account_id),
                bank_line=encode_id("bl", one.bank_line_id) if one.bank_line_id else None,
                amount=one.amount_minor,
                currency=one.currency,
            ),
            actor=actor,
            now=now,
        )


def resolve_breaks(
    breaks: Sequence[Break], *, resolution: Resolution, reason: str, actor: Actor, now: datetime
) -> None:
    """Close breaks whose cause is gone; they are locked by the caller."""
    for one in breaks:
        one.state, one.resolution, one.reason = BreakState.RESOLVED, resolution, reason
        one.resolved_at, one.event_sequence = now, one.event_sequence + 1
        one.save(update_fields=["state", "resolution", "reason", "resolved_at", "event_sequence"])
        outbox.publish(
            events.BreakResolved(
                organization_id=one.organization_id,
                aggregate_id=encode_id("brk", one.id),
                sequence=one.event_sequence,
                occurred_at=now,
                id=encode_id("brk", one.id),
                kind=one.kind,
                resolution=resolution,
            ),
            actor=actor,
            now=now,
        )
