"""The locks of the books: here, and nowhere else. And what is read under them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Case, IntegerField, Q, QuerySet, When

from apps.core import statements
from apps.ledger.models import BalanceMonitor, ChainHead, Hold
from apps.ledger.rules import (
    BalanceState,
    HoldState,
    HoldStatus,
    KnownEntry,
    LaterBalances,
    MonitorState,
    keeps_reference,
)

_BALANCES_OF: Final = """
    SELECT id, currency, credit_normal, status, min_available_minor, internal,
           posted_debits, posted_credits, pending_debits, pending_credits, version,
           latest_effective_at, monitored
      FROM ledger_balance
     WHERE organization_id = %(org)s AND id = ANY({ids})
     ORDER BY id
"""
_BALANCES: Final = _BALANCES_OF.format(ids="%(ids)s")
_LOCK_BALANCES: Final = _BALANCES + " FOR NO KEY UPDATE"
# A key that stood before has another id than the fresh one that was offered. Each is looked up by
# itself: a join might read all keys of the organization, as long as statistics call them few.
_CLAIMED: Final = """ARRAY(
        SELECT c.account_id
          FROM unnest(%(keys)s::text[], %(made)s::uuid[], %(accounts)s::uuid[])
               AS c(key, made, account_id)
         WHERE c.made = (SELECT k.resource_id FROM core_idempotency_key k
                          WHERE k.organization_id = %(org)s AND k.key = c.key)
     )"""
_LOCK_CLAIMED: Final = _BALANCES_OF.format(ids=_CLAIMED) + " FOR NO KEY UPDATE"
_KNOWN_ENTRIES: Final = """
    SELECT e.reference, e.id, p.account_id, p.amount_minor, p.currency
      FROM ledger_journal_entry e
      JOIN ledger_posting p ON p.organization_id = e.organization_id AND p.entry_id = e.id
     WHERE e.organization_id = %(org)s AND e.reference = ANY(%(references)s)
     ORDER BY e.reference, p.number
"""
_STANDS: Final = """
    SELECT EXISTS (SELECT FROM ledger_journal_entry e
                    WHERE e.organization_id = %(org)s AND e.reference = ANY(%(references)s))
"""
# What is dated later than an instant was recorded after it, less a minute, and less the hour by
# which the server's clock may have stepped back (`rules.CLOCK_STEP_MAX`): by its versions, found by
# halving. What was dated ahead by more has an index of its own. So no account's whole history is
# read, however long it is. An instant asked for is a move of nothing. After each move something
# stands, until the next one.
_LATER: Final = """
    WITH RECURSIVE asked AS (
        SELECT account_id, at
          FROM unnest(%(accounts)s::uuid[], %(instants)s::timestamptz[]) AS a(account_id, at)
    ), firsts AS MATERIALIZED (
        SELECT b.id AS account_id, b.credit_normal, b.version, f.first_at
          FROM (SELECT account_id, MIN(at) AS first_at FROM asked GROUP BY account_id) AS f
          JOIN ledger_balance b ON b.organization_id = %(org)s AND b.id = f.account_id
    ), search AS (
        SELECT account_id, credit_normal, first_at, 0::bigint AS low, version AS high
          FROM firsts
         UNION ALL
        SELECT h.account_id, h.credit_normal, h.first_at,
               CASE WHEN p.recorded_at < h.first_at - INTERVAL '61 minutes'
                    THEN h.middle ELSE h.low END,
               CASE WHEN p.recorded_at < h.first_at - INTERVAL '61 minutes'
                    THEN h.high ELSE h.middle - 1 END
          FROM (SELECT *, (low + high + 1) / 2 AS middle FROM search WHERE low < high) AS h
          JOIN ledger_posting p ON p.organization_id = %(org)s
           AND p.account_id = h.account_id AND p.account_version = h.middle
    ), moves AS (
        SELECT account_id, at, at AS asked_at, 0::bigint AS amount FROM asked
         UNION ALL
        SELECT p.account_id, p.effective_at, NULL,
               CASE WHEN s.credit_normal THEN -p.amount_minor ELSE p.amount_minor END
          FROM search s
          JOIN ledger_posting p ON p.organization_id = %(org)s
           AND p.account_id = s.account_id AND p.account_version > s.low
         WHERE s.low = s.high AND p.effective_at > s.first_at
           AND p.effective_at - p.recorded_at <= INTERVAL '1 minute'
         UNION ALL
        SELECT p.account_id, p.effective_at, NULL,
               CASE WHEN f.credit_normal THEN -p.amount_minor ELSE p.amount_minor END
          FROM firsts f
          JOIN ledger_posting p ON p.organization_id = %(org)s
           AND p.account_id = f.account_id AND p.effective_at > f.first_at
         WHERE p.effective_at - p.recorded_at > INTERVAL '1 minute'
    ), steps AS (
        SELECT account_id, at, MAX(asked_at) OVER so_far AS asked_at,
               (SUM(amount) OVER so_far)::bigint AS moved,
               (SUM(amount) OVER (PARTITION BY account_id))::bigint AS moves
          FROM moves
        WINDOW so_far AS (PARTITION BY account_id ORDER BY at)
    )
    SELECT DISTINCT ON (account_id, asked_at) account_id, asked_at, moved - moves, at
      FROM steps
     ORDER BY account_id, asked_at, moved, at
"""


_OPEN_FIRST: Final = Case(
    When(status=HoldStatus.OPEN, then=0), default=1, output_field=IntegerField()
)


class PendingBalances:
    """Balances that were asked for; the first look at them is what waits for Postgres."""

    def __init__(
        self, statement: str, values: Mapping[str, object], ids: Mapping[int, UUID]
    ) -> None:
        self._asked = ids
        self.answer = statements.ask(statement, values)

    def read(self) -> dict[UUID, BalanceState]:
        """Return those that are there."""
        asked, rows = self._asked, self.answer.rows()
        # Under the very objects that were asked for, which a dict then finds without comparing.
        return {(id_ := asked[row[0].int]): BalanceState(id_, *row[1:]) for row in rows}

    def by_number(self) -> dict[int, BalanceState]:
        """Return the same under the integers in their ids, which a dict finds in C."""
        asked, rows = self._asked, self.answer.rows()
        return {(n := row[0].int): BalanceState(asked[n], *row[1:]) for row in rows}


def lock_balances(
    *, organization_id: UUID, account_ids: Iterable[UUID]
) -> dict[UUID, BalanceState]:
    """
    Return these balances locked, in ascending id: the one global order, so no two posters deadlock.

    Every value the engine decides by is in the locked row itself, which Postgres re-reads after
    a wait; a joined row would be of the statement's snapshot.
    """
    return _balances(_LOCK_BALANCES, organization_id, account_ids)


def read_balances(
    *, organization_id: UUID, account_ids: Iterable[UUID]
) -> dict[UUID, BalanceState]:
    """Return these balances as they stand, without a lock: for a dry run."""
    return _balances(_BALANCES, organization_id, account_ids)


def ask_balances(*, organization_id: UUID, account_ids: Iterable[UUID]) -> PendingBalances:
    """Have balances locked as `lock_balances` does; they come with the next trip."""
    return _pending(_LOCK_BALANCES, organization_id, account_ids)


def _balances(
    statement: str, organization_id: UUID, account_ids: Iterable[UUID]
) -> dict[UUID, BalanceState]:
    return _pending(statement, organization_id, account_ids).read()


def _pending(statement: str, organization_id: UUID, account_ids: Iterable[UUID]) -> PendingBalances:
    # By the integer in it: an id compares in Python, and for each of thousands.
    asked = {id_.int: id_ for id_ in account_ids}
    ids = statements.uuids([asked[number] for number in sorted(asked)])
    return PendingBalances(statement, {"org": organization_id, "ids": ids}, asked)


def lock_claimed_balances(
    *, organization_id: UUID, claimed: Sequence[tuple[str, UUID, UUID]]
) -> PendingBalances:
    """
    Have balances locked as `lock_balances` does, in the trip in which their keys are claimed.

    `claimed` are keys, the fresh ids for what they make, and an account of each. Only the accounts
    of keys that this transaction has now are locked: a replay needs none and waits for none.
    """
    keys, made, accounts = zip(*claimed, strict=True)
    values = {
        "org": organization_id,
        "keys": statements.texts(keys),
        "made": statements.uuids(made),
        "accounts": statements.uuids(accounts),
    }
    return PendingBalances(_LOCK_CLAIMED, values, {id_.int: id_ for id_ in accounts})


def lock_holds(*, organization_id: UUID, hold_ids: Iterable[UUID]) -> dict[UUID, HoldState]:
    """Return these holds locked, ascending: work rows come before balances in the lock order."""
    rows = (
        Hold.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id__in=list(hold_ids))
        .order_by("id")
    )
    return {hold.id: hold_state(hold) for hold in rows}


def lock_expired_holds(
    *, organization_id: UUID, account_ids: Iterable[UUID] | None, now: datetime, limit: int
) -> dict[UUID, HoldState]:
    """
    Return the open holds whose time is over, locked, those of these accounts' money or all.

    Of all, one that somebody else holds is left out: the next sweep finds it, if it is still there.
    Who needs the money of some accounts waits for it.
    """
    rows = _expired(organization_id, account_ids, now).select_for_update(
        no_key=True, skip_locked=account_ids is None
    )
    return {hold.id: hold_state(hold) for hold in rows[:limit]}


def read_expired_holds(
    *, organization_id: UUID, account_ids: Iterable[UUID], now: datetime
) -> dict[UUID, HoldState]:
    """Return the open holds on these accounts' money whose time is over, without a lock."""
    return {hold.id: hold_state(hold) for hold in _expired(organization_id, account_ids, now)}


def has_expired_holds(*, organization_id: UUID, account_ids: Iterable[UUID], now: datetime) -> bool:
    """Say whether `read_expired_holds` would return one."""
    return _expired(organization_id, account_ids, now).exists()


def _expired(
    organization_id: UUID, account_ids: Iterable[UUID] | None, now: datetime
) -> QuerySet[Hold]:
    rows = Hold.objects.filter(
        organization_id=organization_id, status=HoldStatus.OPEN, expires_at__lte=now
    )
    if account_ids is not None:
        ids = list(account_ids)
        rows = rows.filter(Q(debit_account_id__in=ids) | Q(credit_account_id__in=ids))
    return rows.order_by("id")


def organizations_with_expired_holds(*, now: datetime) -> list[UUID]:
    """Return whose holds the sweeper has to look at."""
    rows = Hold.objects.filter(status=HoldStatus.OPEN, expires_at__lte=now)
    return list(rows.values_list("organization_id", flat=True).distinct())


def find_holds_by_reference(
    *, organization_id: UUID, references: Sequence[str]
) -> dict[str, HoldState]:
    """
    Return the holds that stand under these references; their terms never change.

    Under one that names a hold for ever, that one, whatever became of it: the open one or else the
    latest, where more were placed before references did. Under another one the open hold.
    """
    if not references:
        return {}
    kept = {reference for reference in references if keeps_reference(reference)}
    # By the references on both sides: else Postgres may go through all holds that are open.
    rows = (
        Hold.objects.filter(
            Q(reference__in=kept) | Q(reference__in=set(references) - kept, status=HoldStatus.OPEN),
            organization_id=organization_id,
        )
        .order_by("reference", _OPEN_FIRST, "-id")
        .distinct("reference")
    )
    return {hold.reference: hold_state(hold) for hold in rows if hold.reference}


def read_holds(*, organization_id: UUID, hold_ids: Iterable[UUID]) -> dict[UUID, HoldState]:
    """Return these holds as they stand, without a lock: for a dry run."""
    rows = Hold.objects.filter(organization_id=organization_id, id__in=list(hold_ids))
    return {hold.id: hold_state(hold) for hold in rows}


def lock_chain_head(*, organization_id: UUID) -> ChainHead:
    """
    Return the head of the organisation's chain, locked until the transaction ends.

    Only who seals takes this lock, so one of them extends the chain at a time, and it is the only
    lock sealing takes: nothing that posts ever waits for it.
    """
    ChainHead.objects.bulk_create(
        [ChainHead(organization_id=organization_id)], ignore_conflicts=True
    )
    return ChainHead.objects.select_for_update(no_key=True).get(organization_id=organization_id)


def hold_state(hold: Hold) -> HoldState:
    """Return what the engine decides by of a hold's row."""
    return HoldState(
        id=hold.id,
        debit_account_id=hold.debit_account_id,
        credit_account_id=hold.credit_account_id,
        currency=hold.currency,
        amount_minor=hold.amount_minor,
        captured_minor=hold.captured_minor,
        status=hold.status,
        expires_at=hold.expires_at,
        reference=hold.reference,
        multi_capture=hold.multi_capture,
        event_sequence=hold.event_sequence,
    )


def lock_monitors(*, organization_id: UUID, account_ids: Iterable[UUID]) -> list[MonitorState]:
    """
    Return the active monitors of these accounts locked, ascending.

    Whoever calls this holds the accounts' balances: monitors come after them in the lock order,
    so what crosses a threshold is decided by one poster at a time.
    """
    rows = (
        BalanceMonitor.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, account_id__in=list(account_ids), is_active=True)
        .order_by("id")
    )
    return [
        MonitorState(
            id=row.id,
            account_id=row.account_id,
            measure=row.measure,
            direction=row.direction,
            threshold_minor=row.threshold_minor,
            is_beyond=row.is_beyond,
        )
        for row in rows
    ]


def find_entries_by_reference(
    *, organization_id: UUID, references: Sequence[str]
) -> dict[str, KnownEntry]:
    """Return what stands under these references, with its legs in their order."""
    if not references:
        return {}
    found: dict[str, tuple[UUID, list[tuple[UUID, int, str]]]] = {}
    rows = statements.run(
        _KNOWN_ENTRIES,
        {"org": organization_id, "references": statements.texts(list(references))},
    )
    for reference, entry_id, *leg in rows:
        found.setdefault(reference, (entry_id, []))[1].append((leg[0], leg[1], leg[2]))
    return {ref: KnownEntry(id_, tuple(legs)) for ref, (id_, legs) in found.items()}


def ask_standing(*, organization_id: UUID, references: Sequence[str]) -> Callable[[], bool]:
    """
    Have it looked up whether an entry stands under one of these references; what is returned says.

    It comes with the next trip, as what was asked before it does.
    """
    if not references:
        return lambda: False
    values = {"org": organization_id, "references": statements.texts(references)}
    stands = statements.ask(_STANDS, values)
    return lambda: stands.rows() == [(True,)]


def later_balances(
    *,
    organization_id: UUID,
    balances: Mapping[UUID, BalanceState],
    instants: Mapping[UUID, Sequence[datetime]],
) -> dict[UUID, LaterBalances]:
    """
    Return, per account, the lowest posted balances from each of these instants to the next.

    Call it with the balances locked: nothing is posted between them and this read.
    """
    asked = [(account_id, at) for account_id, ats in instants.items() for at in ats]
    if not asked:
        return {}
    rows = statements.run(
        _LATER,
        {
            "org": organization_id,
            "accounts": statements.uuids([account_id for account_id, _ in asked]),
            "instants": statements.instants([at for _, at in asked]),
        },
    )
    found: dict[UUID, LaterBalances] = {}
    for account_id, at, change, since in rows:
        later = found.setdefault(account_id, LaterBalances([], [], []))
        later.instants.append(at)
        later.lows.append(balances[account_id].posted + change)
        later.lows_at.append(since)
    return found
