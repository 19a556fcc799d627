"""Reads of the books, and the only place that locks them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet, Sum

from apps.core.ids import encode_id
from apps.ledger import errors
from apps.ledger.formats import AccountRecord, EntryRecord, LegRecord
from apps.ledger.models import Balance, Hold, JournalEntry, LedgerAccount, Posting
from apps.ledger.rules import BalanceState, HoldState, KnownEntry

_LOCK_BALANCES: Final = """
    SELECT id, currency, credit_normal, status, min_available_minor, internal,
           posted_debits, posted_credits, pending_debits, pending_credits, version
      FROM ledger_balance
     WHERE organization_id = %s AND id = ANY(%s)
     ORDER BY id
       FOR NO KEY UPDATE
"""
_KNOWN_ENTRIES: Final = """
    SELECT e.reference, e.id, p.account_id, p.amount_minor, p.currency
      FROM ledger_journal_entry e
      JOIN ledger_posting p ON p.organization_id = e.organization_id AND p.entry_id = e.id
     WHERE e.organization_id = %s AND e.reference = ANY(%s)
     ORDER BY e.reference, p.number
"""
_TRIAL_BALANCE: Final = """
    SELECT a.code, a.type, a.currency, b.posted_debits, b.posted_credits
      FROM ledger_account a
      JOIN ledger_balance b ON b.organization_id = a.organization_id AND b.id = a.id
     WHERE a.organization_id = %s AND (b.posted_debits <> 0 OR b.posted_credits <> 0)
     ORDER BY a.currency, a.code
"""


def lock_balances(
    *, organization_id: UUID, account_ids: Iterable[UUID]
) -> dict[UUID, BalanceState]:
    """
    Return these balances locked, in ascending id: the one global order, so no two posters deadlock.

    Every value the engine decides by is in the locked row itself, which Postgres re-reads after
    a wait; a joined row would be of the statement's snapshot.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_BALANCES, [organization_id, sorted(account_ids)])
        return {row[0]: BalanceState(*row) for row in cursor.fetchall()}


def lock_holds(*, organization_id: UUID, hold_ids: Iterable[UUID]) -> dict[UUID, HoldState]:
    """Return these holds locked, ascending: work rows come before balances in the lock order."""
    rows = (
        Hold.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id__in=list(hold_ids))
        .order_by("id")
    )
    return {hold.id: _hold_state(hold) for hold in rows}


def _hold_state(hold: Hold) -> HoldState:
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
    )


def find_entries_by_reference(
    *, organization_id: UUID, references: Sequence[str]
) -> dict[str, KnownEntry]:
    """Return what stands under these references, with its legs in their order."""
    if not references:
        return {}
    found: dict[str, tuple[UUID, list[tuple[UUID, int, str]]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN_ENTRIES, [organization_id, list(references)])
        for reference, entry_id, *leg in cursor.fetchall():
            found.setdefault(reference, (entry_id, []))[1].append((leg[0], leg[1], leg[2]))
    return {ref: KnownEntry(id_, tuple(legs)) for ref, (id_, legs) in found.items()}


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
    """Return a line per account that ever moved; per currency debits equal credits."""
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


@dataclass(frozen=True, slots=True)
class PostingView:
    """One posting with the code of its account."""

    account_id: UUID
    code: str
    amount_minor: int
    currency: str
    account_version: int
    balance_after_minor: int


@dataclass(frozen=True, slots=True)
class EntryView:
    """A journal entry with its postings in their order."""

    id: UUID
    kind: str
    reference: str | None
    description: str
    effective_at: datetime
    recorded_at: datetime
    reverses: UUID | None
    reversed_by: UUID | None
    actor: str
    metadata: Mapping[str, object]
    postings: tuple[PostingView, ...]


def get_entry(*, organization_id: UUID, entry_id: UUID) -> EntryView:
    """
    Return one journal entry.

    :raises JournalEntryNotFound: if the organisation has no such entry
    """
    found = view_entries(
        organization_id=organization_id,
        entries=JournalEntry.objects.filter(organization_id=organization_id, id=entry_id),
    )
    if not found:
        raise errors.JournalEntryNotFound("There is no such journal entry.")
    return found[0]


def entries(*, organization_id: UUID, account_id: UUID | None = None) -> QuerySet[JournalEntry]:
    """Return the organisation's entries, or those that touch one account, for a page of them."""
    rows = JournalEntry.objects.filter(organization_id=organization_id)
    if account_id is None:
        return rows
    touching = Posting.objects.filter(organization_id=organization_id, account_id=account_id)
    return rows.filter(id__in=touching.values("entry_id"))


def accounts(*, organization_id: UUID) -> QuerySet[LedgerAccount]:
    """Return the organisation's ledger accounts, for a page of them."""
    return LedgerAccount.objects.filter(organization_id=organization_id)


def view_entries(*, organization_id: UUID, entries: Iterable[JournalEntry]) -> list[EntryView]:
    """Return these entries with their postings, codes and reversals, in three reads."""
    rows = list(entries)
    ids = [row.id for row in rows]
    postings = list(
        Posting.objects.filter(organization_id=organization_id, entry_id__in=ids).order_by(
            "entry_id", "number"
        )
    )
    named = LedgerAccount.objects.filter(
        organization_id=organization_id, id__in={posting.account_id for posting in postings}
    )
    codes = dict(named.values_list("id", "code"))
    reversed_by = dict(
        JournalEntry.objects.filter(
            organization_id=organization_id, reverses_id__in=ids
        ).values_list("reverses_id", "id")
    )
    by_entry: dict[UUID, list[PostingView]] = {id_: [] for id_ in ids}
    for posting in postings:
        by_entry[posting.entry_id].append(_posting_view(posting, codes[posting.account_id]))
    return [_entry_view(row, by_entry[row.id], reversed_by.get(row.id)) for row in rows]


def _posting_view(posting: Posting, code: str) -> PostingView:
    return PostingView(
        account_id=posting.account_id,
        code=code,
        amount_minor=posting.amount_minor,
        currency=posting.currency,
        account_version=posting.account_version,
        balance_after_minor=posting.balance_after_minor,
    )


def _entry_view(
    row: JournalEntry, postings: Sequence[PostingView], reversed_by: UUID | None
) -> EntryView:
    return EntryView(
        id=row.id,
        kind=row.kind,
        reference=row.reference,
        description=row.description,
        effective_at=row.effective_at,
        recorded_at=row.recorded_at,
        reverses=row.reverses_id,
        reversed_by=reversed_by,
        actor=row.actor,
        metadata=row.metadata,
        postings=tuple(postings),
    )


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One line of an account's statement, with the running balance on its normal side."""

    entry_id: UUID
    kind: str
    reference: str | None
    description: str
    effective_at: datetime
    recorded_at: datetime
    amount_minor: int
    balance_after_minor: int
    account_version: int


def account_statement(
    *, organization_id: UUID, account_id: UUID, before_version: int | None = None, limit: int = 50
) -> list[StatementLine]:
    """Return an account's postings in the order they were recorded, newest first."""
    postings = Posting.objects.filter(organization_id=organization_id, account_id=account_id)
    if before_version is not None:
        postings = postings.filter(account_version__lt=before_version)
    page = list(postings.order_by("-account_version")[:limit])
    rows = JournalEntry.objects.filter(
        organization_id=organization_id, id__in=[posting.entry_id for posting in page]
    )
    by_id = {row.id: row for row in rows}
    return [
        StatementLine(
            entry_id=posting.entry_id,
            kind=by_id[posting.entry_id].kind,
            reference=by_id[posting.entry_id].reference,
            description=by_id[posting.entry_id].description,
            effective_at=by_id[posting.entry_id].effective_at,
            recorded_at=by_id[posting.entry_id].recorded_at,
            amount_minor=posting.amount_minor,
            balance_after_minor=posting.balance_after_minor,
            account_version=posting.account_version,
        )
        for posting in page
    ]


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


def export_accounts(*, organization_id: UUID) -> list[AccountRecord]:
    """Return every account with the sum of its postings, debit positive."""
    with connection.cursor() as cursor:
        cursor.execute(_EXPORT_ACCOUNTS, [organization_id])
        return [AccountRecord(*row) for row in cursor.fetchall()]


def stream_entries(*, organization_id: UUID, chunk: int = 2000) -> Iterator[EntryRecord]:
    """
    Yield every entry in the order of its id, by a server-side cursor: memory stays flat.

    Call it inside a REPEATABLE READ transaction where accounts and entries have to agree.
    """
    connection.ensure_connection()
    with connection.connection.cursor(name="journal_export") as cursor:
        cursor.itersize = chunk
        cursor.execute(_EXPORT_ENTRIES, [organization_id])
        for id_, kind, reference, description, effective_at, recorded_at, legs in cursor:
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


@dataclass(frozen=True, slots=True)
class OpenHold:
    """Money reserved on an account, and still there."""

    id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    reference: str | None
    created_at: datetime


def list_open_holds(
    *, organization_id: UUID, account_ids: Iterable[UUID], limit: int = 20
) -> list[OpenHold]:
    """Return the open holds that reserve money of these accounts, newest first."""
    rows = Hold.objects.filter(
        organization_id=organization_id, debit_account_id__in=list(account_ids), status="open"
    )
    return [
        OpenHold(
            id=hold.id,
            account_id=hold.debit_account_id,
            amount_minor=hold.amount_minor,
            currency=hold.currency,
            reference=hold.reference,
            created_at=hold.created_at,
        )
        for hold in rows.order_by("-id")[:limit]
    ]


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
