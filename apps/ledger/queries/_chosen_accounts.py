"""Which accounts a read through time is about: one, a branch of the tree, or all; few, or many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from apps.ledger.models import Balance, LedgerAccount
from apps.ledger.queries._accounts import in_branch

# Up to here the part of a month is read account by account; above, in one pass over the month.
FEW_ACCOUNTS: Final = 200


@dataclass(frozen=True, slots=True)
class LedgerAccounts:
    """
    The accounts asked about, and how they were chosen.

    `rows` are id, code, type and currency in the order of codes: of few all, of many the first. If
    it is one account with a `version`, it is answered as of that one by the effective clock: what
    was posted to it later is in no sum.
    """

    organization_id: UUID
    rows: Sequence[tuple[UUID, str, str, str]]
    are_few: bool
    branch: str = ""
    currency: str = ""
    version: int | None = None

    @property
    def are_all(self) -> bool:
        """Say whether they are many, and all that the organisation has."""
        return self.have_totals and not self.currency

    @property
    def have_totals(self) -> bool:
        """Say whether they are many, and all of one or every currency: what totals are kept of."""
        return not (self.are_few or self.branch)


def choose_accounts(
    *,
    organization_id: UUID,
    account_id: UUID | None = None,
    code_prefix: str = "",
    currency: str = "",
    account_type: str = "",
) -> LedgerAccounts:
    """
    Return one account, the accounts of a branch of the tree, or all; of a type, those of it.

    A branch is the account of this code and all below it, as `in_branch` says.
    """
    branch = code_prefix.rstrip(":")
    rows = _in_order(organization_id, branch, currency, account_type)
    if account_id is not None:
        rows = rows.filter(id=account_id)
    found = list(rows.values_list("id", "code", "type", "currency")[: FEW_ACCOUNTS + 1])
    are_few = account_id is not None or len(found) <= FEW_ACCOUNTS
    return LedgerAccounts(organization_id, found, are_few, branch, currency)


def next_accounts(
    *,
    organization_id: UUID,
    start: str,
    count: int,
    back: bool = False,
    code_prefix: str = "",
    currency: str = "",
    account_type: str = "",
    moved: bool = True,
) -> tuple[LedgerAccounts, str | None]:
    """
    Return the first `count` of a branch, or of all, from this code on, and the code after them.

    `back`: the last ones up to this code, in the order of codes too, and the code before them.
    Where `moved` is asked, those that nothing was ever posted to are passed over.
    """
    branch = code_prefix.rstrip(":")
    rows = _in_order(organization_id, branch, currency, account_type)
    rows = rows.filter(code__lte=start).reverse() if back else rows.filter(code__gte=start)
    if moved:
        balances = Balance.objects.filter(
            organization_id=organization_id, id=OuterRef("id"), version__gt=0
        )
        rows = rows.filter(Exists(balances))
    found = list(rows.values_list("id", "code", "type", "currency")[: count + 1])
    following = found[count][1] if len(found) > count else None
    own = found[:count][::-1] if back else found[:count]
    chosen = LedgerAccounts(organization_id, own, are_few=True, branch=branch, currency=currency)
    return chosen, following


def _in_order(
    organization_id: UUID, branch: str, currency: str, account_type: str
) -> QuerySet[LedgerAccount]:
    rows = LedgerAccount.objects.filter(organization_id=organization_id).order_by("code")
    if account_type:
        rows = rows.filter(type=account_type)
    if currency:
        rows = rows.filter(currency=currency)
    if branch:
        rows = rows.filter(in_branch(branch))
    return rows
