"""A statement of account that leaves the house as a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from apps.accounts import queries as accounts
from apps.core import idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.formats.statement import StatementHead, StatementRow, write_statement
from apps.ledger.operations._file_export import (
    EXPORT,
    FileExport,
    bounded,
    note_begun,
    write_file,
)
from apps.ledger.queries import Clock, Position, Statement
from apps.ledger.rules import CREDIT_NORMAL

PAGE_ROWS: Final = 1_000
_INSTEAD: Final = "Narrow it to one kind; manage.py export_journal writes the whole journal."


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTerms:
    """Which statement is asked for: `since` inclusive, `until` exclusive; no kind is every kind."""

    period: str
    since: datetime
    until: datetime
    clock: Clock = "effective"
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementExport(FileExport):
    """An export of a statement."""

    account_id: UUID
    terms: StatementTerms


@transactions.outermost
def begin_statement_export(
    *,
    organization_id: UUID,
    account_id: UUID,
    terms: StatementTerms,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> StatementExport:
    """
    Note that somebody takes a statement out of the house, and return what may be written.

    Replaying the key notes that it is taken out again.

    :raises CapabilityMissing: if the actor is staff who may not export
    :raises LedgerAccountNotFound: if the organisation has no such account
    """
    asked = [terms.since, terms.until, terms.clock, terms.kind]
    claim = idempotency.claim(
        organization_id, idempotency_key, "export_statement", account_id, *asked, reason
    )
    accounts.require_capability(actor=actor, capability=EXPORT, organization_id=organization_id)
    queries.get_balance(organization_id=organization_id, account_id=account_id)
    export = StatementExport(
        id=claim.resource_id,
        organization_id=organization_id,
        subject=("ledger.ledgeraccount", str(account_id)),
        actor=actor,
        started_at=now,
        account_id=account_id,
        terms=terms,
    )
    note_begun(
        export,
        reason=reason,
        asked={
            "list": "statement",
            "period": terms.period,
            "since": terms.since.isoformat(),
            "until": terms.until.isoformat(),
            "clock": terms.clock,
            "kind": terms.kind,
        },
        is_again=claim.replayed,
    )
    return export


def write_statement_export(export: StatementExport) -> Iterator[bytes]:
    """
    Read the file as of one instant and return it; what it held is noted when it was sent.

    :raises ExportTooLarge: if there are more lines than one file may have
    :raises ExportTooSlow: if Postgres needs longer for them than a request may
    """
    return write_file(export, partial(_lines, export), instead=_INSTEAD)


def _lines(export: StatementExport, as_of: datetime) -> Iterator[str]:
    first = _page(export, None)
    head = StatementHead(
        code=first.code,
        currency=first.currency,
        clock=first.clock,
        kind=export.terms.kind,
        since=first.since,
        until=first.until,
        as_of=as_of,
        opening_minor=first.opening_minor,
        closing_minor=first.closing_minor,
    )
    yield from write_statement(head, bounded(_rows(export, first), instead=_INSTEAD))


def _rows(export: StatementExport, page: Statement) -> Iterator[StatementRow]:
    """Yield every line, a page of them in memory at a time."""
    side = -1 if page.type in CREDIT_NORMAL else 1
    while True:
        for line in page.lines:
            yield StatementRow(
                entry=encode_id("je", line.entry_id),
                kind=line.kind,
                reference=line.reference or "",
                description=line.description,
                effective_at=line.effective_at,
                recorded_at=line.recorded_at,
                amount_minor=side * line.amount_minor,
                balance_minor=line.balance_after_minor,
            )
        if page.next is None:
            return
        page = _page(export, page.next)


def _page(export: StatementExport, after: Position | None) -> Statement:
    return queries.get_statement(
        organization_id=export.organization_id,
        account_id=export.account_id,
        since=export.terms.since,
        until=export.terms.until,
        clock=export.terms.clock,
        kind=export.terms.kind,
        ask=queries.LinesAsked(PAGE_ROWS, after=after),
    )
