"""Money that was changed from one currency to another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.core.windows import Window, during
from apps.ledger import errors
from apps.ledger.models import Balance, FxTransfer
from apps.ledger.queries._search import with_metadata


@dataclass(frozen=True, slots=True)
class AccountSide:
    """An account's normal side, and whether only Kassa's acts post; a client's stays a client's."""

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
    rows = FxTransfer.objects.filter(organization_id=organization_id)
    found = rows.filter(id=fx_transfer_id).first()
    if found is None:
        raise errors.FxTransferNotFound("There is no such FX transfer.")
    return found


def fx_transfers_of(*, organization_id: UUID, entry_ids: Iterable[UUID]) -> dict[UUID, FxTransfer]:
    """Return the FX transfers that made these entries, by entry; most entries have none."""
    asked = set(entry_ids)
    rows = FxTransfer.objects.filter(
        Q(sold_entry_id__in=asked) | Q(bought_entry_id__in=asked), organization_id=organization_id
    )
    made = {id_: row for row in rows for id_ in (row.sold_entry_id, row.bought_entry_id)}
    return {id_: row for id_, row in made.items() if id_ in asked}


def find_fx_transfer(*, organization_id: UUID, reference: str) -> FxTransfer | None:
    """Return the FX transfer that stands under this reference, or None."""
    rows = FxTransfer.objects.filter(organization_id=organization_id)
    return rows.filter(reference=reference).first()


@dataclass(frozen=True, slots=True)
class FxSearch:
    """What FX transfers are looked for; a currency is either one, metadata is by containment."""

    reference: str | None = None
    currency: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    effective: Window = field(default_factory=Window)
    created: Window = field(default_factory=Window)


def fx_transfers(*, organization_id: UUID, search: FxSearch) -> QuerySet[FxTransfer]:
    """Return the organisation's FX transfers that match, for a page of them."""
    rows = FxTransfer.objects.filter(
        during("effective_at", search.effective),
        during("created_at", search.created),
        with_metadata(search.metadata),
        organization_id=organization_id,
    )
    if search.reference is not None:
        rows = rows.filter(reference=search.reference)
    if search.currency is not None:
        rows = rows.filter(Q(sold_currency=search.currency) | Q(bought_currency=search.currency))
    return rows


def fx_lanes(
    *, organization_id: UUID, account_id: UUID | None, search: FxSearch
) -> list[QuerySet[FxTransfer]]:
    """
    Return the same FX transfers, of one account if it is named, in lanes that share none.

    Those that sell from an account and those that buy to it have an index each. None does both: its
    two accounts are of two currencies.
    """
    rows = fx_transfers(organization_id=organization_id, search=search)
    if account_id is None:
        return [rows]
    return [rows.filter(from_account_id=account_id), rows.filter(to_account_id=account_id)]
