"""A page of accounts' lines, balances or trial balances: what is asked, and how it is cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from apps.ledger.models import LedgerAccount
from apps.ledger.queries._history import BalanceAt
from apps.ledger.queries._trial_balance import AccountMovement, Narrowed


@dataclass(frozen=True, slots=True)
class PageAsked:
    """
    Which lines: of a branch and a currency if these are named.

    The first of them, or those right after an account's line, or right before one.
    """

    limit: int
    after: UUID | None = None
    before: UUID | None = None
    code_prefix: str = ""
    currency: str = ""

    @property
    def narrowed(self) -> Narrowed:
        return {"code_prefix": self.code_prefix, "currency": self.currency}


@dataclass(frozen=True, slots=True)
class Cut[Line]:
    """A page's lines in the order of codes, and whether there are others before and after them."""

    lines: Sequence[Line]
    has_previous: bool
    has_more: bool


class LinesFrom[Line](Protocol):
    """Returns so many lines from a code on, its own too; `back`: down from it, nearest first."""

    def __call__(self, start: str, count: int, *, back: bool = False) -> list[Line]: ...


def cut_lines[Line: (AccountMovement, BalanceAt)](
    organization_id: UUID, ask: PageAsked, lines_from: LinesFrom[Line]
) -> Cut[Line] | None:
    """Return the page that is asked for; None if its cursor's account has no line there."""
    cursor = ask.after if ask.before is None else ask.before
    if cursor is None:
        found = lines_from("", ask.limit + 1)
        return Cut(found[: ask.limit], has_previous=False, has_more=len(found) > ask.limit)
    rows = LedgerAccount.objects.filter(organization_id=organization_id, id=cursor)
    code = rows.values_list("code", flat=True).first()
    if code is None:
        return None
    # From its own line on: it has to be one of this list.
    back = ask.before is not None
    found = lines_from(code, ask.limit + 2, back=back)
    if not found or found[0].account_id != cursor:
        return None
    page, is_cut = found[1 : ask.limit + 1], len(found) > ask.limit + 1
    if back:
        return Cut(page[::-1], has_previous=is_cut, has_more=bool(page))
    return Cut(page, has_previous=bool(page), has_more=is_cut)
