"""What a page of accounts' lines is asked with, and where it goes on: balances, trial balances."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from apps.ledger.models import LedgerAccount
from apps.ledger.queries._history import BalanceAt
from apps.ledger.queries._trial_balance import AccountMovement, Narrowed


@dataclass(frozen=True, slots=True)
class PageAsked:
    """Which lines: of a branch and a currency if these are named, behind an account's line."""

    limit: int
    after: UUID | None = None
    code_prefix: str = ""
    currency: str = ""

    @property
    def narrowed(self) -> Narrowed:
        return {"code_prefix": self.code_prefix, "currency": self.currency}


def lines_behind[Line: (AccountMovement, BalanceAt)](
    organization_id: UUID, ask: PageAsked, lines_from: Callable[[str, int], list[Line]]
) -> list[Line] | None:
    """
    Return the page's lines and one more, if there is one; None if `ask.after` has no line there.

    `lines_from` returns the first lines from a code on, so many.
    """
    if ask.after is None:
        return lines_from("", ask.limit + 1)
    rows = LedgerAccount.objects.filter(organization_id=organization_id, id=ask.after)
    code = rows.values_list("code", flat=True).first()
    if code is None:
        return None
    # From its own line on: it has to be one of this list.
    found = lines_from(code, ask.limit + 2)
    return found[1:] if found and found[0].account_id == ask.after else None
