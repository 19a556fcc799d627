"""A client's batch of transfers, as it was answered."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core.errors import Refusal, refusal_classes
from apps.ledger import errors
from apps.ledger.models import TransferBatch
from apps.ledger.queries._balances import list_balances
from apps.ledger.queries._journal import accounts_of_entries, entry_amounts
from apps.ledger.rules import BalanceAfter

# The others are sets of entries that were undone together.
_MODES: Final = ("atomic", "independent")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """
    What became of each transfer of a batch, in order: an entry's id, or a refusal.

    `balances` are the accounts that it touched, as they were right after it. Those of a replay, of
    the batch or of one reference in it, are as they stand. A dry run was not `created_at` any time.
    """

    batch_id: UUID
    entry_ids: tuple[UUID | None, ...]
    refusals: Mapping[int, Refusal]
    amounts: tuple[int | None, ...] = ()
    balances: tuple[BalanceAfter, ...] = ()
    created_at: datetime | None = None


def get_transfer_batch(
    *, organization_id: UUID, batch_id: UUID, now: datetime | None = None
) -> BatchResult:
    """
    Return a batch as it was answered first, with balances as they stand.

    Who shows it gives `now`, by which holds are over; a replay has none, as `balances_now` says.

    :raises TransferBatchNotFound: if the organisation has no such batch of transfers
    """
    rows = TransferBatch.objects.filter(organization_id=organization_id, mode__in=_MODES)
    row = rows.filter(id=batch_id).first()
    if row is None:
        raise errors.TransferBatchNotFound("There is no such batch of transfers.")
    kinds = refusal_classes()
    made = [entry_id for entry_id in row.entry_ids if entry_id is not None]
    amounts = entry_amounts(organization_id=organization_id, entry_ids=made)
    return BatchResult(
        batch_id=row.id,
        entry_ids=tuple(row.entry_ids),
        refusals={
            int(index): kinds[stored["code"]](stored["message"], **stored["details"])
            for index, stored in row.refusals.items()
        },
        amounts=tuple(amounts.get(id_) if id_ else None for id_ in row.entry_ids),
        balances=standing_after(organization_id=organization_id, entry_ids=made, now=now),
        created_at=row.created_at,
    )


def standing_after(
    *,
    organization_id: UUID,
    entry_ids: Sequence[UUID],
    but: Collection[UUID] = (),
    now: datetime | None = None,
) -> tuple[BalanceAfter, ...]:
    """Return the accounts that these entries post to, as they stand now, but for some."""
    touched = accounts_of_entries(organization_id=organization_id, entry_ids=entry_ids)
    views = list_balances(
        organization_id=organization_id, ids=[id_ for id_ in touched if id_ not in but], now=now
    )
    return tuple(
        BalanceAfter(view.account_id, view.version, view.posted, view.available) for view in views
    )
