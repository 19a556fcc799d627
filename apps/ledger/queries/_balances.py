"""What stands on accounts now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet, Sum

from apps.ledger import errors
from apps.ledger.models import Balance, LedgerAccount
from apps.ledger.rules import BalanceState

_TRIAL_BALANCE: Final = """
    SELECT a.code, a.type, a.currency, b.posted_debits, b.posted_credits
      FROM ledger_account a
      JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
     WHERE a.organization_id = %s AND (b.posted_debits <> 0 OR b.posted_credits <> 0)
     ORDER BY a.currency, a.code
"""


def account_ids(*, organization_id: UUID, codes: Iterable[str]) -> dict[str, UUID]:
    """Return the ids of these codes; a code that is not there is missing from the answer."""
    rows = LedgerAccount.objects.filter(organization_id=organization_id, code__in=list(codes))
    return dict(rows.values_list("code", "id"))


@dataclass(frozen=True, slots=True)
class BalanceView:
    """An account's money as of one read, in minor units on its normal side."""

    account_id: UUID
    code: str
    type: str
    currency: str
    status: str
    min_available_minor: int | None
    posted: int
    pending_out: int
    pending_in: int
    available: int
    version: int


def get_balance(*, organization_id: UUID, account_id: UUID) -> BalanceView:
    """
    Return one account's balance.

    :raises LedgerAccountNotFound: if the organisation has no such account
    """
    found = list_balances(organization_id=organization_id, ids=[account_id])
    if not found:
        raise errors.LedgerAccountNotFound("There is no such ledger account.")
    return found[0]


def list_balances(
    *,
    organization_id: UUID,
    ids: Sequence[UUID] | None = None,
    code_prefix: str | None = None,
) -> list[BalanceView]:
    """Return balances in the order of their codes, narrowed to ids or to a branch of the tree."""
    accounts = LedgerAccount.objects.filter(organization_id=organization_id)
    if ids is not None:
        accounts = accounts.filter(id__in=ids)
    if code_prefix is not None:
        accounts = accounts.filter(code__startswith=code_prefix)
    by_id = {account.id: account for account in accounts}
    rows = Balance.objects.filter(organization_id=organization_id, id__in=list(by_id))
    views = [_view(by_id[row.id], row) for row in rows]
    return sorted(views, key=lambda view: view.code)


def view_balances(accounts: Iterable[LedgerAccount]) -> list[BalanceView]:
    """Return the balances of these accounts, in their order, in one read; for a page of them."""
    by_id = {account.id: account for account in accounts}
    rows = {row.id: row for row in Balance.objects.filter(id__in=list(by_id))}
    return [_view(account, rows[id_]) for id_, account in by_id.items()]


def _view(account: LedgerAccount, row: Balance) -> BalanceView:
    state = BalanceState(
        id=row.id,
        currency=row.currency,
        credit_normal=row.credit_normal,
        posted_debits=row.posted_debits,
        posted_credits=row.posted_credits,
        pending_debits=row.pending_debits,
        pending_credits=row.pending_credits,
    )
    return BalanceView(
        account_id=row.id,
        code=account.code,
        type=account.type,
        currency=row.currency,
        status=row.status,
        min_available_minor=row.min_available_minor,
        posted=state.posted,
        pending_out=state.pending_out,
        pending_in=state.pending_in,
        available=state.available,
        version=row.version,
    )


@dataclass(frozen=True, slots=True)
class TrialBalanceLine:
    """One account's line: its net on one side, the other side 0, in minor units."""

    code: str
    type: str
    currency: str
    debit: int
    credit: int


def trial_balance(*, organization_id: UUID) -> list[TrialBalanceLine]:
    """
    Return a line per account that ever moved; per currency debits equal credits.

    By the counters as they stand, whatever the entries' business times: as of an instant or of a
    month it is `movements_between`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TRIAL_BALANCE, [organization_id])
        return [
            TrialBalanceLine(code, type_, currency, max(dr - cr, 0), max(cr - dr, 0))
            for code, type_, currency, dr, cr in cursor.fetchall()
        ]


def trial_balance_totals(lines: Iterable[TrialBalanceLine]) -> dict[str, tuple[int, int]]:
    """Return the sums of debits and of credits per currency."""
    totals: dict[str, tuple[int, int]] = {}
    for line in lines:
        debit, credit = totals.get(line.currency, (0, 0))
        totals[line.currency] = (debit + line.debit, credit + line.credit)
    return totals


def accounts(*, organization_id: UUID) -> QuerySet[LedgerAccount]:
    """Return the organisation's ledger accounts, for a page of them."""
    return LedgerAccount.objects.filter(organization_id=organization_id)


def currency_totals(*, organization_ids: Iterable[UUID]) -> list[tuple[UUID, str, int, int]]:
    """Return organization, currency, sum of debits and sum of credits, over every balance."""
    rows = Balance.objects.filter(organization_id__in=list(organization_ids))
    summed = rows.values("organization_id", "currency").annotate(
        debits=Sum("posted_debits"), credits=Sum("posted_credits")
    )
    return [
        (row["organization_id"], row["currency"], int(row["debits"]), int(row["credits"]))
        for row in summed.order_by("organization_id", "currency")
    ]
