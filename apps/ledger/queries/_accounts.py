"""Ledger accounts, narrowed for a list of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.core.windows import Window, during
from apps.ledger import errors
from apps.ledger.models import Balance, LedgerAccount
from apps.ledger.queries._search import with_metadata


@dataclass(frozen=True, slots=True)
class AccountSearch:
    """What accounts are looked for; everything named has to match, metadata by containment."""

    code: str | None = None
    code_prefix: str | None = None
    type: str | None = None
    currency: str | None = None
    status: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created: Window = field(default_factory=Window)


_ANY = AccountSearch()


def accounts(*, organization_id: UUID, search: AccountSearch = _ANY) -> QuerySet[LedgerAccount]:
    """Return the organisation's ledger accounts that match, for a page of them."""
    rows = LedgerAccount.objects.filter(
        during("created_at", search.created),
        with_metadata(search.metadata),
        organization_id=organization_id,
    )
    exact = {"code": search.code, "type": search.type, "currency": search.currency}
    rows = rows.filter(**{name: value for name, value in exact.items() if value is not None})
    if search.code_prefix is not None:
        rows = rows.filter(in_branch(search.code_prefix))
    if search.status is not None:
        balances = Balance.objects.filter(
            organization_id=OuterRef("organization_id"), id=OuterRef("id"), status=search.status
        )
        rows = rows.filter(Exists(balances))
    return rows


def require_account(*, organization_id: UUID, account_id: UUID) -> None:
    """
    Refuse what names an account that the organisation does not have.

    :raises LedgerAccountNotFound: if it has none of this id
    """
    if not LedgerAccount.objects.filter(organization_id=organization_id, id=account_id).exists():
        raise errors.LedgerAccountNotFound("There is no such ledger account.")


def in_branch(code_prefix: str) -> Q:
    """
    Return the condition of the account of this code and of those below it in the tree.

    `wallets` and `wallets:` are one branch, and `wallets_old` is not in it.
    """
    branch = code_prefix.rstrip(":")
    return Q(code=branch) | Q(code__startswith=f"{branch}:")
