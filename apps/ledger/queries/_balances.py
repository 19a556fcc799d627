"""What stands on accounts now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from apps.ledger import errors
from apps.ledger.models import Balance, Hold, LedgerAccount
from apps.ledger.queries._expired_sql import EXPIRED
from apps.ledger.rules import AccountType, BalanceAfter, BalanceState, HoldStatus

# Beside `EXPIRED`, which stands in the same statement.
BALANCES_AT: Final = """
    SELECT b.id, b.currency, b.credit_normal, b.status, b.min_available_minor, b.internal,
           b.posted_debits, b.posted_credits, b.pending_debits - COALESCE(x.debits, 0),
           b.pending_credits - COALESCE(x.credits, 0), b.version
      FROM ledger_balance b
      LEFT JOIN expired x ON x.account_id = b.id
     WHERE b.organization_id = ANY(%(owners)s) AND b.id = ANY(%(ids)s)
"""
_BALANCES: Final = f"WITH {EXPIRED} {BALANCES_AT}"
_TRIAL_BALANCE: Final = """
    SELECT a.code, a.type, a.currency, b.posted_debits, b.posted_credits
      FROM ledger_account a
      JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
     WHERE a.organization_id = %(org)s
       AND (b.posted_debits <> 0 OR b.posted_credits <> 0)
     ORDER BY a.currency, a.code
"""


def account_ids(*, organization_id: UUID, codes: Iterable[str]) -> dict[str, UUID]:
    """Return the ids of these codes; a code that is not there is missing from the answer."""
    rows = LedgerAccount.objects.filter(organization_id=organization_id, code__in=list(codes))
    return dict(rows.values_list("code", "id"))


def has_status(status: str) -> Exists:
    """Return the condition of ledger accounts with this status."""
    return Exists(_own_balance().filter(status=status))


def stands_at_floor(*, now: datetime, is_below: bool = False) -> Exists:
    """
    Return the condition of ledger accounts of which nothing more may leave at `now`.

    `is_below` asks for less than the floor, which a CHECK refuses: such a row is a fault.
    """
    lookup = "lt" if is_below else "exact"
    debit_floor = (
        F("posted_credits") + F("pending_credits") + F("min_available_minor")
        - _expired_on("credit_account_id", now)
    )  # fmt: skip
    credit_floor = (
        F("posted_debits") + F("pending_debits") + F("min_available_minor")
        - _expired_on("debit_account_id", now)
    )  # fmt: skip
    return Exists(
        _own_balance()
        .filter(min_available_minor__isnull=False)
        .filter(
            Q(credit_normal=False, **{f"posted_debits__{lookup}": debit_floor})
            | Q(credit_normal=True, **{f"posted_credits__{lookup}": credit_floor})
        )
    )


def _expired_on(side: str, now: datetime) -> Coalesce:
    """Return what holds reserve on this side of a balance's account whose time is over."""
    over = Hold.objects.filter(
        organization_id=OuterRef("organization_id"), status=HoldStatus.OPEN, expires_at__lte=now,
        **{side: OuterRef("id")},
    )  # fmt: skip
    left = over.values(side).annotate(left=Sum(F("amount_minor") - F("captured_minor")))
    return Coalesce(Subquery(left.values("left")), 0)


def _own_balance() -> QuerySet[Balance]:
    return Balance.objects.filter(organization_id=OuterRef("organization_id"), id=OuterRef("id"))


def codes_of(*, organization_id: UUID, account_ids: Iterable[UUID]) -> dict[UUID, str]:
    """
    Return the codes of these accounts.

    :raises LedgerAccountNotFound: if the organisation lacks one
    """
    wanted = set(account_ids)
    rows = LedgerAccount.objects.filter(organization_id=organization_id, id__in=wanted)
    found = dict(rows.values_list("id", "code"))
    if wanted - found.keys():
        raise errors.LedgerAccountNotFound("There is no such ledger account.")
    return found


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
    metadata: Mapping[str, str]
    created_at: datetime


def get_balance(
    *, organization_id: UUID, account_id: UUID, now: datetime | None = None
) -> BalanceView:
    """
    Return one account's balance, as `list_balances` does.

    :raises LedgerAccountNotFound: if the organisation has no such account
    """
    found = list_balances(organization_id=organization_id, ids=[account_id], now=now)
    if not found:
        raise errors.LedgerAccountNotFound("There is no such ledger account.")
    return found[0]


def list_balances(
    *, organization_id: UUID, ids: Sequence[UUID] | None = None, now: datetime | None = None
) -> list[BalanceView]:
    """
    Return the balances of these accounts, or of all, in the order of their codes.

    A hold whose time is over at `now` reserves nothing in them, whether or not it was swept. Who
    shows a balance gives it; without it pending and available are the counters as they stand.
    """
    accounts = LedgerAccount.objects.filter(organization_id=organization_id)
    if ids is not None:
        accounts = accounts.filter(id__in=ids)
    by_id = {account.id: account for account in accounts}
    if not by_id:
        return []
    values = {"owners": [organization_id], "ids": list(by_id), "now": now}
    with connection.cursor() as cursor:
        cursor.execute(_BALANCES, values)
        views = [view_of(by_id[row[0]], BalanceState(*row)) for row in cursor.fetchall()]
    return sorted(views, key=lambda view: view.code)


def balances_now(
    *, organization_id: UUID, account_ids: Iterable[UUID], now: datetime | None = None
) -> tuple[BalanceAfter, ...]:
    """
    Return these accounts as they stand, in their order.

    What a replay answers has no `now`: it tells the counters, as the act itself did.
    """
    ids = list(account_ids)
    views = list_balances(organization_id=organization_id, ids=ids, now=now)
    found = {view.account_id: view for view in views}
    return tuple(
        BalanceAfter(id_, found[id_].version, found[id_].posted, found[id_].available)
        for id_ in ids
        if id_ in found
    )


def view_of(account: LedgerAccount, state: BalanceState) -> BalanceView:
    """Return an account's balance as it is shown."""
    return BalanceView(
        account_id=account.id,
        code=account.code,
        type=account.type,
        currency=state.currency,
        status=state.status,
        min_available_minor=state.min_available_minor,
        posted=state.posted,
        pending_out=state.pending_out,
        pending_in=state.pending_in,
        available=state.available,
        version=state.version,
        metadata=account.metadata,
        created_at=account.created_at,
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

    By the counters as they stand, whatever the entries' business times: as of an instant it is
    `page_until`, of a month `page_of_period`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TRIAL_BALANCE, {"org": organization_id})
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


def accounts_of_facts(
    *, organization_id: UUID, account_ids: Iterable[UUID]
) -> QuerySet[LedgerAccount]:
    """Return the assets and liabilities among these accounts that only Kassa's own acts post to."""
    rows = LedgerAccount.objects.filter(
        is_of_fact(), organization_id=organization_id, id__in=list(account_ids)
    )
    return rows.order_by("code")


def is_of_fact(account: str = "id") -> Exists:
    """
    Return the condition of accounts that stand for facts: `accounts_of_facts` returns these.

    `account` names the column that holds the account's id, where it is another table's.
    """
    internal = Balance.objects.filter(
        organization_id=OuterRef("organization_id"), id=OuterRef("id"), internal=True
    )
    return Exists(
        LedgerAccount.objects.filter(
            Exists(internal),
            organization_id=OuterRef("organization_id"),
            id=OuterRef(account),
            type__in=[AccountType.ASSET, AccountType.LIABILITY],
        )
    )


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
