"""What the bank said."""

from collections.abc import Mapping
from uuid import UUID

from django.db.models import QuerySet

from apps.payouts.models import BankFact


def list_facts_to_look_at(*, organization_id: UUID | None = None) -> QuerySet[BankFact]:
    """Return what the bank said and people have to look at, oldest first."""
    facts = BankFact.objects.exclude(desk="nobody").filter(looked_at__isnull=True).order_by("id")
    return facts if organization_id is None else facts.filter(organization_id=organization_id)


def facts_of_lines(
    *, organization_id: UUID, kind: str, bank_line_id: UUID
) -> Mapping[int, BankFact]:
    """Return what was recorded of a bank line, by position."""
    rows = BankFact.objects.filter(
        organization_id=organization_id, kind=kind, bank_line_id=bank_line_id
    )
    return {row.position: row for row in rows}
