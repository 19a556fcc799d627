"""Money that was changed from one currency to another."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet

from apps.ledger import errors
from apps.ledger.models import Balance, FxTransfer


@dataclass(frozen=True, slots=True)
class AccountSide:
    """What of an account never changes: its normal side, and whether only Kassa's acts post."""

    account_id: UUID
    credit_normal: bool
    internal: bool


def account_sides(*, organization_id: UUID, account_ids: Iterable[UUID]) -> list[AccountSide]:
    """Return the sides of those of these accounts that the organisation has."""
    rows = Balance.objects.filter(organization_id=organization_id, id__in=list(account_ids))
    return [AccountSide(*row) for row in rows.values_list("id", "credit_normal", "internal")]


def get_fx_transfer(*, organization_id: UUID, fx_transfer_id: UUID) -> FxTransfer:
    """
    Return one FX transfer.

    :raises FxTransferNotFound: if the organisation has no such FX transfer
    """
    found = fx_transfers(organization_id=organization_id).filter(id=fx_transfer_id).first()
    if found is None:
        raise errors.FxTransferNotFound("There is no such FX transfer.")
    return found


def find_fx_transfer(*, organization_id: UUID, reference: str) -> FxTransfer | None:
    """Return the FX transfer that stands under this reference, or None."""
    return fx_transfers(organization_id=organization_id, reference=reference).first()


def fx_transfers(*, organization_id: UUID, reference: str | None = None) -> QuerySet[FxTransfer]:
    """Return the organisation's FX transfers, or the one with a reference, for a page of them."""
    rows = FxTransfer.objects.filter(organization_id=organization_id)
    return rows if reference is None else rows.filter(reference=reference)
