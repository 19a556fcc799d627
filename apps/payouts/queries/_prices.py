"""What payouts cost."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from apps.payouts.models import PayoutPrice
from apps.payouts.rules import PriceLine


def list_prices(*, organization_id: UUID, now: datetime) -> Sequence[PriceLine]:
    """Return the prices in force, one per rail and currency."""
    rows = PayoutPrice.objects.filter(
        organization_id=organization_id, valid_from__lte=now
    ).order_by("valid_from")
    newest = {(row.rail, row.currency): row.fee_minor for row in rows}
    return [PriceLine(rail, currency, fee) for (rail, currency), fee in newest.items()]
