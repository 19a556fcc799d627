"""Reactions to events: each one operation call."""

from collections.abc import Sequence
from uuid import UUID

from apps.core.models import OutboxEvent
from apps.webhooks import operations


def fan_out(organization_id: UUID, committed: Sequence[OutboxEvent]) -> None:
    """Owe a committed batch's public events to the organization's endpoints."""
    operations.fan_out(organization_id=organization_id, committed=committed)
