"""Holds as they are shown, and an account's balance together with them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import Case, IntegerField, Q, QuerySet, When

from apps.core import transactions
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.core.windows import Window, during
from apps.ledger import errors
from apps.ledger.models import Balance, Hold, HoldEvent, LedgerAccount
from apps.ledger.queries._accounts import in_branch
from apps.ledger.queries._balances import BALANCES_AT, BalanceView, view_of
from apps.ledger.queries._expired_sql import EXPIRED
from apps.ledger.queries._search import with_metadata
from apps.ledger.rules import BalanceState, HoldStatus

OPEN_HOLDS_MAX = 1000
HOLD_EVENTS_MAX = 1000
# How many columns of `_HELD` are the balance's.
_BALANCE_COLUMNS: Final = 11
# What leaves an account's normal side is a debit where credits are normal, else a credit.
_HELD_ON: Final = """
    SELECT h.id, h.debit_account_id, h.credit_account_id, h.currency, h.amount_minor,
           h.captured_minor, h.amount_minor - h.captured_minor, h.status, h.multi_capture,
           h.reference, h.expires_at, h.created_at, h.metadata,
           (SELECT o.code FROM ledger_account o
             WHERE o.organization_id = h.organization_id AND o.id = h.{other}) AS other_code
      FROM ledger_hold h
     WHERE {side} AND h.organization_id = ANY(%(owners)s) AND h.{account} = b.id
       AND h.status = 'open' AND (h.expires_at IS NULL OR h.expires_at > %(now)s)
     ORDER BY h.id DESC LIMIT %(limit)s
"""
_WITH_HELD: Final = """
    WITH {expired}, balance AS ({balances})
    SELECT b.*, held.*
      FROM balance b
      LEFT JOIN LATERAL (({of_debit_account}) UNION ALL ({of_credit_account})) AS held ON TRUE
     ORDER BY b.id, held.id DESC
"""
_HELD: Final = _WITH_HELD.format(
    expired=EXPIRED,
    balances=BALANCES_AT,
    of_debit_account=_HELD_ON.format(
        side="b.credit_normal", account="debit_account_id", other="credit_account_id"
    ),
    of_credit_account=_HELD_ON.format(
        side="NOT b.credit_normal", account="credit_account_id", other="debit_account_id"
    ),
)
_BEGINS_FIRST = Case(When(kind="placed", then=0), default=1, output_field=IntegerField())


@dataclass(frozen=True, slots=True)
class HoldView:
    """
    A hold as it stands at an instant: past its time it is expired, whether or not it was swept.

    `remaining_minor` is what it still reserves of `debit_account_id`; 0 once it has ended.
    """

    id: UUID
    debit_account_id: UUID
    credit_account_id: UUID
    currency: str
    amount_minor: int
    captured_minor: int
    remaining_minor: int
    status: str
    multi_capture: bool
    reference: str | None
    expires_at: datetime | None
    created_at: datetime
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class HeldView(HoldView):
    """A hold on an account's money, and the code of the account for which it is reserved."""

    other_code: str


@dataclass(frozen=True, slots=True)
class HoldEventView:
    """
    What happened to a hold: `placed`, `captured`, `voided` or `expired`, and of how much.

    A capture names the journal entry that it posted; one of nothing posts none.
    """

    kind: str
    amount_minor: int
    entry_id: UUID | None
    recorded_at: datetime


def get_hold(*, organization_id: UUID, hold_id: UUID, now: datetime) -> HoldView:
    """
    Return one hold.

    :raises HoldNotFound: if the organisation has no such hold
    """
    row = Hold.objects.filter(organization_id=organization_id, id=hold_id).first()
    if row is None:
        raise errors.HoldNotFound("There is no such hold.")
    return view_hold(row, now=now)


@dataclass(frozen=True, slots=True)
class HoldSearch:
    """
    What holds are looked for; everything named has to match, metadata by containment.

    Of an account those on its money, or with `incoming` those whose money it would get.
    """

    account_id: UUID | None = None
    incoming: bool = False
    status: str | None = None
    reference: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created: Window = field(default_factory=Window)
    expires: Window = field(default_factory=Window)


def holds(*, organization_id: UUID, search: HoldSearch, now: datetime) -> QuerySet[Hold]:
    """Return the organisation's holds that match, for a page of them."""
    rows = Hold.objects.filter(
        during("created_at", search.created),
        during("expires_at", search.expires),
        with_metadata(search.metadata),
        organization_id=organization_id,
    )
    if search.account_id is not None:
        rows = _of_account(rows, organization_id, search.account_id, incoming=search.incoming)
    if search.status is not None:
        rows = rows.filter(hold_has_status(search.status, now=now))
    if search.reference is not None:
        rows = rows.filter(reference=search.reference)
    return rows


def _of_account(
    rows: QuerySet[Hold], organization_id: UUID, account_id: UUID, *, incoming: bool
) -> QuerySet[Hold]:
    """Narrow holds to those that reserve what leaves an account's normal side, or comes to it."""
    sides = Balance.objects.filter(organization_id=organization_id, id=account_id)
    for credit_normal in sides.values_list("credit_normal", flat=True):
        name = "debit_account_id" if credit_normal is not incoming else "credit_account_id"
        return rows.filter(**{name: account_id})
    return rows.none()


def hold_has_status(status: str, *, now: datetime) -> Q:
    """Return the condition of holds that are in a status at `now`: past its time one is expired."""
    over = Q(status=HoldStatus.OPEN, expires_at__lte=now)
    match status:
        case HoldStatus.OPEN:
            return Q(status=HoldStatus.OPEN) & ~over
        case HoldStatus.EXPIRED:
            return Q(status=HoldStatus.EXPIRED) | over
    return Q(status=status)


def hold_with_events(
    *, organization_id: UUID, hold_id: UUID, now: datetime
) -> tuple[HoldView, list[HoldEventView], bool]:
    """
    Return a hold, what happened to it from its placing on, and whether more did than is shown.

    One read as of one instant. A hold whose time is over is `expired` at once; its event follows
    when its money is given back.

    :raises HoldNotFound: if the organisation has no such hold
    """
    with transactions.snapshot():
        view = get_hold(organization_id=organization_id, hold_id=hold_id, now=now)
        found = [
            _event_view(row) for row in _events_of(organization_id, hold_id)[: HOLD_EVENTS_MAX + 1]
        ]
    return view, found[:HOLD_EVENTS_MAX], len(found) > HOLD_EVENTS_MAX


def hold_with_first_events(
    *, organization_id: UUID, hold_id: UUID, now: datetime, limit: int
) -> tuple[HoldView, list[HoldEventView]]:
    """
    Return what `hold_with_events` does, of `limit` events, by one statement.

    Each event brings the hold along, so this is for few of them.

    :raises HoldNotFound: if the organisation has no such hold
    """
    rows = list(_events_of(organization_id, hold_id).select_related("hold")[:limit])
    if not rows:
        raise errors.HoldNotFound("There is no such hold.")
    return view_hold(rows[0].hold, now=now), [_event_view(row) for row in rows]


def _events_of(organization_id: UUID, hold_id: UUID) -> QuerySet[HoldEvent]:
    """Return what happened to a hold, in its order."""
    rows = HoldEvent.objects.filter(organization_id=organization_id, hold_id=hold_id)
    # Ids are made by hosts whose clocks may differ; what comes first and last is certain.
    return rows.order_by(_BEGINS_FIRST, "terminal", "id")


def _event_view(row: HoldEvent) -> HoldEventView:
    return HoldEventView(row.kind, row.amount_minor, row.entry_id, row.recorded_at)


def actors_of_hold(
    *, organization_id: UUID, hold_id: UUID, limit: int
) -> dict[tuple[str, str], str]:
    """
    Return who did what to a hold, by the event's kind and the printed id of a capture's entry.

    Of the first `limit` things and of the last one. Its feed says so, and is not kept for ever: of
    what is older nobody is named.
    """
    rows = OutboxEvent.objects.filter(
        organization_id=organization_id,
        aggregate_type="hold",
        aggregate_id=encode_id("ho", hold_id),
    )
    told = rows.values_list("type", "data", "actor")
    return {
        (type_.removeprefix("hold."), data.get("journal_entry") or ""): actor
        for type_, data, actor in [
            *told.order_by("sequence")[:limit],
            *told.order_by("-sequence")[:1],
        ]
    }


def hold_entries(*, organization_id: UUID, hold_id: UUID) -> list[UUID]:
    """Return the journal entries that captures of a hold posted, the first one first."""
    rows = HoldEvent.objects.filter(
        organization_id=organization_id, hold_id=hold_id, entry_id__isnull=False
    )
    return [entry_id for entry_id in rows.order_by("id").values_list("entry_id", flat=True)
            if entry_id is not None]  # fmt: skip


def balance_with_holds(
    *, organization_id: UUID, account_id: UUID, now: datetime
) -> tuple[BalanceView, list[HeldView], bool]:
    """
    Return an account's balance, the open holds on its money, and whether there are more of them.

    As of one instant, as `balances_with_holds` reads them.

    :raises LedgerAccountNotFound: if the organisation has no such account
    """
    for balance, found in balances_with_holds(
        LedgerAccount.objects.filter(organization_id=organization_id, id=account_id),
        now=now,
        limit=OPEN_HOLDS_MAX + 1,
    ):
        return balance, found[:OPEN_HOLDS_MAX], len(found) > OPEN_HOLDS_MAX
    raise errors.LedgerAccountNotFound("There is no such ledger account.")


def branch_with_holds(
    *, organization_id: UUID, code_prefix: str, now: datetime, limit: int
) -> list[tuple[BalanceView, list[HeldView]]]:
    """Return what `balances_with_holds` does of a branch of the tree, in the order of codes."""
    accounts = LedgerAccount.objects.filter(
        in_branch(code_prefix), organization_id=organization_id
    ).order_by("code")
    return balances_with_holds(accounts, now=now, limit=limit)


def balances_with_holds(
    accounts: Iterable[LedgerAccount], *, now: datetime, limit: int
) -> list[tuple[BalanceView, list[HeldView]]]:
    """
    Return these accounts' balances, each with the newest `limit` open holds on its money.

    One statement, as of one instant: what all its holds reserve is what a balance says is pending
    out. A hold whose time is over at `now` reserves nothing in it, whether or not it was swept.
    """
    by_id = {account.id: account for account in accounts}
    if not by_id:
        return []
    values: dict[str, Any] = {
        "owners": list({account.organization_id for account in by_id.values()}),
        "ids": list(by_id),
        "now": now,
        "limit": limit,
    }
    found: dict[UUID, tuple[BalanceView, list[HeldView]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_HELD, values)
        for row in cursor.fetchall():
            state = BalanceState(*row[:_BALANCE_COLUMNS])
            hold: tuple[Any, ...] = row[_BALANCE_COLUMNS:]
            if state.id not in found:
                found[state.id] = view_of(by_id[state.id], state), []
            if hold[0] is not None:
                *own, metadata, code = hold
                found[state.id][1].append(HeldView(*(*own, json.loads(metadata), code)))
    return [found[id_] for id_ in by_id if id_ in found]


def view_hold(row: Hold, *, now: datetime) -> HoldView:
    """Return the hold as it is shown at `now`."""
    status = row.status
    if status == HoldStatus.OPEN and row.expires_at is not None and row.expires_at <= now:
        status = HoldStatus.EXPIRED
    return HoldView(
        id=row.id,
        debit_account_id=row.debit_account_id,
        credit_account_id=row.credit_account_id,
        currency=row.currency,
        amount_minor=row.amount_minor,
        captured_minor=row.captured_minor,
        remaining_minor=row.amount_minor - row.captured_minor if status == HoldStatus.OPEN else 0,
        status=status,
        multi_capture=row.multi_capture,
        reference=row.reference,
        expires_at=row.expires_at,
        created_at=row.created_at,
        metadata=row.metadata,
    )
