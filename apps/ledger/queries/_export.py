"""The journal as it leaves: streamed, as of one instant."""

from collections.abc import Generator, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from django.db import connection
from django.db.models import OuterRef, Q, Subquery
from msgspec import Raw

from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id
from apps.core.streaming import stream
from apps.ledger.formats import AccountRecord, EntryRecord, LegRecord, journal
from apps.ledger.models import (
    Balance,
    BalanceMonitor,
    ChainHead,
    ChainLink,
    EntryMetadata,
    FxTransfer,
    Hold,
    LedgerAccount,
    Period,
    PeriodBalance,
)
from apps.ledger.queries._recount import stream_chain
from apps.ledger.rules import HoldStatus, rate_text
from apps.ledger.states import PeriodState

# How many rows are in memory where they are streamed.
_CHUNK: Final = 2_000
_EXPORT_ACCOUNTS: Final = """
    SELECT a.code, a.type, a.currency, COALESCE(SUM(p.amount_minor), 0)::bigint
      FROM ledger_account a
      LEFT JOIN ledger_posting p
        ON p.organization_id = a.organization_id AND p.account_id = a.id
     WHERE a.organization_id = %s
     GROUP BY a.code, a.type, a.currency ORDER BY a.code
"""
_EXPORT_ENTRIES: Final = """
    SELECT e.id, e.kind, e.reference, e.description, e.effective_at, e.recorded_at,
           array_agg(ARRAY[a.code, a.type, p.amount_minor::text, p.currency] ORDER BY p.number)
      FROM ledger_journal_entry e
      JOIN ledger_posting p ON p.organization_id = e.organization_id AND p.entry_id = e.id
      JOIN ledger_account a ON a.organization_id = p.organization_id AND a.id = p.account_id
     WHERE e.organization_id = %s
     GROUP BY e.organization_id, e.id ORDER BY e.id
"""
_LATER_METADATA: Final = """
    SELECT l.position, m.number, m.metadata::text, m.actor, m.recorded_at
      FROM ledger_entry_metadata m
      JOIN ledger_chain_link l ON l.organization_id = m.organization_id AND l.entry_id = m.entry_id
     WHERE m.organization_id = %s
     ORDER BY l.position, m.number
"""


def snapshot_time() -> datetime:
    """
    Return what time it is by the database's clock, and take the snapshot where none is taken yet.

    Called first inside a snapshot: what was committed before it is seen there.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        [instant] = cursor.fetchone() or [None]
    return cast("datetime", instant)


def export_accounts(*, organization_id: UUID) -> list[AccountRecord]:
    """Return every account with the sum of its postings, debit positive."""
    with connection.cursor() as cursor:
        cursor.execute(_EXPORT_ACCOUNTS, [organization_id])
        return [AccountRecord(*row) for row in cursor.fetchall()]


def stream_entries(*, organization_id: UUID, chunk: int = _CHUNK) -> Iterator[EntryRecord]:
    """
    Yield every entry in the order of its id, `chunk` of them in memory (`core.streaming`).

    Call it inside a REPEATABLE READ transaction where accounts and entries have to agree.
    """
    rows = stream(_EXPORT_ENTRIES, [organization_id], portion=chunk)
    for id_, kind, reference, description, effective_at, recorded_at, legs in rows:
        yield EntryRecord(
            id=encode_id("je", id_),
            kind=kind,
            reference=reference or "",
            description=description,
            effective_at=effective_at,
            recorded_at=recorded_at,
            legs=tuple(
                LegRecord(code, type_, int(amount), currency)
                for code, type_, amount, currency in legs
            ),
        )


def stream_journal(*, organization_id: UUID) -> Generator[journal.Line]:
    """
    Yield the journal whole, as it is imported again: all lines of `journal.ORDER`.

    Call it inside a snapshot in which everything is sealed (`count_unsealed`): an entry that is not
    would be missing, and what it did to holds would not. Close it there, where it is not read to
    its end.

    :raises InvariantBroken: if a link's entry is missing: `verify_ledger` says more
    """
    rows = _Rows(organization_id)
    yield _header(rows)
    codes = {}
    for account in rows.accounts.order_by("code").iterator(chunk_size=_CHUNK):
        codes[account.id] = account.code
        yield _account_line(account, rows.balances[account.id])
    for link in stream_chain(organization_id=organization_id):
        if link.content is None:
            msg = f"{encode_id('je', link.entry_id)} at position {link.position}: {link.missing}."
            raise InvariantBroken(msg)
        yield journal.entry_line(
            position=link.position,
            hash_=link.hash,
            id_=encode_id("je", link.entry_id),
            content=link.content,
        )
    yield from _metadata_lines(organization_id)
    yield from _lines_beside(rows, codes)


def _metadata_lines(organization_id: UUID) -> Iterator[journal.MetadataLine]:
    rows = stream(_LATER_METADATA, [organization_id], portion=_CHUNK)
    for position, number, metadata, actor, recorded_at in rows:
        yield journal.MetadataLine(
            position=position,
            number=number,
            metadata=Raw(metadata.encode()),
            actor=actor,
            recorded_at=recorded_at,
        )


def _lines_beside(rows: "_Rows", codes: Mapping[UUID, str]) -> Iterator[journal.Line]:
    for fx in rows.fx_transfers.order_by("id").iterator(chunk_size=_CHUNK):
        yield _fx_line(fx, codes)
    for hold in rows.holds.order_by("id").iterator(chunk_size=_CHUNK):
        yield _hold_line(hold, codes)
    for monitor in rows.monitors.order_by("id").iterator(chunk_size=_CHUNK):
        yield _monitor_line(monitor, codes)
    for period in rows.periods.order_by("month"):
        yield _period_line(period)
    stored = rows.period_balances.order_by("month", "closing", "account_id")
    for balance in stored.iterator(chunk_size=_CHUNK):
        yield _period_balance_line(balance, codes)


class _Rows:
    """What an organisation's journal is made of, besides its chain."""

    def __init__(self, organization_id: UUID) -> None:
        mine = {"organization_id": organization_id}
        self.organization_id = organization_id
        self.head = ChainHead.objects.filter(**mine).first()
        self.accounts = LedgerAccount.objects.filter(**mine)
        self.balances = Balance.objects.filter(**mine).in_bulk()
        self.metadata = EntryMetadata.objects.filter(**mine)
        self.fx_transfers = FxTransfer.objects.filter(**mine).annotate(
            sold_position=_position("sold_entry_id"), bought_position=_position("bought_entry_id")
        )
        self.holds = Hold.objects.filter(**mine, status=HoldStatus.OPEN)
        self.monitors = BalanceMonitor.objects.filter(**mine, is_active=True)
        # One that is closing is not closed yet: of it there is what it was before, if it was.
        self.periods = Period.objects.filter(
            Q(state=PeriodState.CLOSED) | Q(closings__gt=0), **mine
        )
        # What was stored of a closed month is in its entries; of one that is open again it is not.
        reopened = self.periods.exclude(state=PeriodState.CLOSED)
        self.period_balances = PeriodBalance.objects.filter(
            **mine, month__in=reopened.values("month")
        )


def _position(column: str) -> Subquery:
    links = ChainLink.objects.filter(
        organization_id=OuterRef("organization_id"), entry_id=OuterRef(column)
    )
    return Subquery(links.values("position")[:1])


def _header(rows: _Rows) -> journal.HeaderLine:
    return journal.HeaderLine(
        format=journal.FORMAT,
        organization=encode_id("org", rows.organization_id),
        hash="" if rows.head is None else bytes(rows.head.hash).hex(),
        accounts=rows.accounts.count(),
        entries=0 if rows.head is None else rows.head.position,
        metadata=rows.metadata.count(),
        fx_transfers=rows.fx_transfers.count(),
        holds=rows.holds.count(),
        monitors=rows.monitors.count(),
        periods=rows.periods.count(),
        period_balances=rows.period_balances.count(),
    )


def _account_line(account: LedgerAccount, balance: Balance) -> journal.AccountLine:
    return journal.AccountLine(
        code=account.code,
        account_type=account.type,
        currency=account.currency,
        min_available=balance.min_available_minor,
        internal=balance.internal,
        status=balance.status,
        metadata=journal.metadata_raw(account.metadata),
    )


def _fx_line(fx: Any, codes: Mapping[UUID, str]) -> journal.FxLine:  # noqa: ANN401  (an annotated FxTransfer)
    return journal.FxLine(
        sold_entry=fx.sold_position,
        bought_entry=fx.bought_position,
        from_account=codes[fx.from_account_id],
        to_account=codes[fx.to_account_id],
        sold=fx.sold_minor,
        sold_currency=fx.sold_currency,
        bought=fx.bought_minor,
        bought_currency=fx.bought_currency,
        rate=rate_text(fx.rate),
        source=fx.source,
        quoted_at=fx.quoted_at,
        reference=fx.reference,
        description=fx.description,
        metadata=journal.metadata_raw(fx.metadata),
        effective_at=fx.effective_at,
        created_at=fx.created_at,
    )


def _hold_line(hold: Hold, codes: Mapping[UUID, str]) -> journal.HoldLine:
    return journal.HoldLine(
        debit_account=codes[hold.debit_account_id],
        credit_account=codes[hold.credit_account_id],
        amount=hold.amount_minor - hold.captured_minor,
        currency=hold.currency,
        reference=hold.reference,
        expires_at=hold.expires_at,
        multi_capture=hold.multi_capture,
        metadata=journal.metadata_raw(hold.metadata),
    )


def _monitor_line(monitor: BalanceMonitor, codes: Mapping[UUID, str]) -> journal.MonitorLine:
    return journal.MonitorLine(
        account=codes[monitor.account_id],
        measure=monitor.measure,
        direction=monitor.direction,
        threshold=monitor.threshold_minor,
        description=monitor.description,
    )


def _period_line(period: Period) -> journal.PeriodLine:
    return journal.PeriodLine(
        month=period.month,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        closings=period.closings,
        requested_by=period.requested_by,
        approved_by=period.approved_by,
        state="closed" if period.state == PeriodState.CLOSED else "open",
        reopening_requested_by=period.reopening_requested_by,
        reopening_approved_by=period.reopening_approved_by,
        reopening_reason=period.reopening_reason,
    )


def _period_balance_line(
    balance: PeriodBalance, codes: Mapping[UUID, str]
) -> journal.PeriodBalanceLine:
    return journal.PeriodBalanceLine(
        month=balance.month,
        closing=balance.closing,
        account=codes[balance.account_id],
        opening=balance.opening_minor,
        debits=balance.debits_minor,
        credits=balance.credits_minor,
    )
