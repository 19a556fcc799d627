"""What the bank said."""

from collections.abc import Mapping
from uuid import UUID

from apps.payouts.models import BankFact


def facts_of_lines(
    *, organization_id: UUID, kind: str, bank_line_id: UUID
) -> Mapping[int, BankFact]:
    """Return what was recorded of a bank line, by position."""
    rows = BankFact.objects.filter(
        organization_id=organization_id, kind=kind, bank_line_id=bank_line_id
    )
    return {row.position: row for row in rows}
