"""Histories of any shape, past the engine: it stamps what it records with the real clock."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from django.db import connection

from apps.core.ids import new_ids
from apps.ledger.queries import (
    AccountMovement,
    BalanceAt,
    Clock,
    CurrencyTotal,
    PeriodView,
    _period_balances,
    _trial_balance,
)
from apps.ledger.queries._chosen_accounts import choose_accounts
from apps.ledger.queries._history import balances_of, cumulate

_POSTINGS = """
    WITH written AS (
        INSERT INTO ledger_posting
            (organization_id, entry_id, number, account_id, amount_minor, currency,
             account_version, balance_after_minor, effective_at, recorded_at)
        VALUES {rows}
        RETURNING organization_id, account_id, amount_minor, effective_at
    )
    UPDATE ledger_balance b
       SET version = s.versions, posted_debits = s.debits, posted_credits = s.credits,
           latest_effective_at = s.latest
      FROM (SELECT organization_id, account_id, COUNT(*) AS versions, MAX(effective_at) AS latest,
                   COALESCE(SUM(amount_minor) FILTER (WHERE amount_minor > 0), 0) AS debits,
                   COALESCE(-SUM(amount_minor) FILTER (WHERE amount_minor < 0), 0) AS credits
              FROM written GROUP BY organization_id, account_id) AS s
     WHERE b.organization_id = s.organization_id AND b.id = s.account_id
"""
_SEAL = """
    INSERT INTO ledger_monthly_total
        (organization_id, account_id, clock, month, debits_minor, credits_minor, postings,
         first_version, last_version)
    SELECT organization_id, account_id, clock, month,
           COALESCE(SUM(amount_minor) FILTER (WHERE amount_minor > 0), 0),
           COALESCE(-SUM(amount_minor) FILTER (WHERE amount_minor < 0), 0),
           COUNT(*), MIN(account_version), MAX(account_version)
      FROM (SELECT p.*, 'effective' AS clock,
                   date_trunc('month', p.effective_at AT TIME ZONE 'UTC')::date AS month
              FROM ledger_posting p
             UNION ALL
            SELECT p.*, 'recorded',
                   date_trunc('month', p.recorded_at AT TIME ZONE 'UTC')::date
              FROM ledger_posting p) AS both_clocks
     WHERE organization_id = %s AND entry_id = ANY(%s)
     GROUP BY organization_id, account_id, clock, month
"""


@dataclass(frozen=True, slots=True)
class Move:
    """One transfer, with both clocks given."""

    debit: UUID
    credit: UUID
    amount: int
    effective_at: datetime
    recorded_at: datetime
    kind: str = "transfer"


@dataclass(slots=True)
class History:
    """What was written, for the naive sums that reads are compared with."""

    organization_id: UUID
    moves: list[Move] = field(default_factory=list)
    entry_ids: list[UUID] = field(default_factory=list)

    def balance(self, account_id: UUID, at: datetime, clock: str = "effective") -> int:
        """Debits less credits up to and including `at`, one by one."""
        told = [move for move in self.moves if getattr(move, f"{clock}_at") <= at]
        return sum(move.amount for move in told if move.debit == account_id) - sum(
            move.amount for move in told if move.credit == account_id
        )


def balances_at(
    organization_id: UUID,
    at: datetime,
    *,
    clock: Clock = "effective",
    account_id: UUID | None = None,
    code_prefix: str = "",
) -> list[BalanceAt]:
    """Return every balance as of an instant, of which a page shows some."""
    accounts = choose_accounts(
        organization_id=organization_id, account_id=account_id, code_prefix=code_prefix
    )
    return balances_of(accounts, at=at, clock=clock)


def movements_between(
    *,
    organization_id: UUID,
    since: datetime | None,
    until: datetime,
    clock: Clock = "effective",
    **narrowed: str,
) -> list[AccountMovement]:
    """Return every line of a trial balance by one read, of which a page shows some."""
    accounts = choose_accounts(organization_id=organization_id, **narrowed)
    ends = _trial_balance._ends(since, until)
    return _trial_balance._lines(cumulate(accounts, instants=ends, clock=clock))


def movements_of(view: PeriodView, **narrowed: str) -> list[AccountMovement]:
    """Return every line of a month's trial balance."""
    return _period_balances.movements_of(view, start="", count=10_000, **narrowed)


def write_history(organization_id: UUID, moves: Sequence[Move]) -> History:
    """
    Write moves in the order they were recorded in, each an entry with two postings.

    Between two of them the server's clock may step back by a little.
    """
    assert all(
        one.recorded_at - other.recorded_at < timedelta(hours=1) for one, other in pairwise(moves)
    )
    history = History(organization_id, list(moves), new_ids(len(moves)))
    versions: dict[UUID, int] = {}
    nets: dict[UUID, int] = {}
    sides = _sides(organization_id)
    postings = []
    for id_, move in zip(history.entry_ids, moves, strict=True):
        for number, (account, amount) in enumerate(
            [(move.debit, move.amount), (move.credit, -move.amount)], 1
        ):
            versions[account] = versions.get(account, 0) + 1
            nets[account] = nets.get(account, 0) + amount
            credit_normal, currency = sides[account]
            after = -nets[account] if credit_normal else nets[account]
            postings.append(
                (organization_id, id_, number, account, amount, currency, versions[account], after,
                 move.effective_at, move.recorded_at)
            )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ledger_journal_entry (id, organization_id, kind, description,"
            " effective_at, recorded_at, actor, metadata)"
            " VALUES (%s, %s, %s, '', %s, %s, 'job:tests', '{}')",
            [
                (id_, organization_id, move.kind, move.effective_at, move.recorded_at)
                for id_, move in zip(history.entry_ids, moves, strict=True)
            ],
        )
        if postings:
            row = "(" + ", ".join(["%s"] * 10) + ")"
            cursor.execute(
                _POSTINGS.format(rows=", ".join([row] * len(postings))),
                [value for posting in postings for value in posting],
            )
    return history


def write_totals(organization_id: UUID, entry_ids: Iterable[UUID]) -> None:
    """Count these entries, the organisation's first, as sealed: what the sealer writes of them."""
    with connection.cursor() as cursor:
        cursor.execute(_SEAL, [organization_id, list(entry_ids)])


def _sides(organization_id: UUID) -> dict[UUID, tuple[bool, str]]:
    """Say of each account whether credits are its normal side, and its currency."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, credit_normal, currency FROM ledger_balance WHERE organization_id = %s",
            [organization_id],
        )
        return {id_: (credit_normal, currency) for id_, credit_normal, currency in cursor}


def seal(organization_id: UUID) -> None:
    """Count every entry there is as sealed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM ledger_journal_entry WHERE organization_id = %s", [organization_id]
        )
        entry_ids = [row[0] for row in cursor.fetchall()]
        for table in ("ledger_monthly_total", "ledger_type_total"):
            cursor.execute(f"DELETE FROM {table} WHERE organization_id = %s", [organization_id])
    write_totals(organization_id, entry_ids)


def movement_totals(lines: Iterable[AccountMovement]) -> list[CurrencyTotal]:
    """Add up a trial balance line by line, per currency in their order, as Postgres must have."""
    sums: dict[str, list[int]] = {}
    for line in lines:
        total = sums.setdefault(line.currency, [0, 0, 0, 0])
        parts = (line.opening, line.debits, line.credits, line.closing)
        sums[line.currency] = [one + part for one, part in zip(total, parts, strict=True)]
    return [CurrencyTotal(currency, *sums[currency]) for currency in sorted(sums)]
