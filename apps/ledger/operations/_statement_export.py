"""
A statement that leaves the house as a file: noted before the first byte, and again after the last.

Both notes are rows of the audit trail, under the id of the export. One without the second broke
off, and so did its file, which then lacks the line that counts its rows.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.accounts import queries as accounts
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.formats.statement import StatementHead, StatementRow, write_statement
from apps.ledger.queries import Clock, Position, Statement
from apps.ledger.rules import CREDIT_NORMAL

EXPORT: Final = "core.export"
PAGE_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTerms:
    """Which statement is asked for: `since` inclusive, `until` exclusive; no kind is every kind."""

    period: str
    since: datetime
    until: datetime
    clock: Clock = "effective"
    kind: str = ""


@dataclass(frozen=True, slots=True)
class StatementExport:
    """An export that was noted, and may be written."""

    id: UUID
    organization_id: UUID
    account_id: UUID
    terms: StatementTerms
    actor: Actor
    started_at: datetime


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

    Replaying the key notes nothing more, and the same file may be written again.

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
        claim.resource_id, organization_id, account_id, terms, actor, started_at=now
    )
    if not claim.replayed:
        _note(
            export,
            reason=reason,
            after={
                "export": str(export.id),
                "list": "statement",
                "period": terms.period,
                "since": terms.since.isoformat(),
                "until": terms.until.isoformat(),
                "clock": terms.clock,
                "kind": terms.kind,
            },
        )
    return export


def write_statement_export(export: StatementExport) -> Iterator[bytes]:
    """Yield the file, all of it as of one instant, and note at its end what it held."""
    digest, lines = hashlib.sha256(), 0
    with transactions.snapshot():
        for line in _lines(export):
            written = line.encode()
            digest.update(written)
            lines += 1
            yield written
    _end(export, lines=lines, sha256=digest.hexdigest())


@transactions.outermost
def _end(export: StatementExport, *, lines: int, sha256: str) -> None:
    _note(export, after={"export": str(export.id), "lines": lines, "sha256": sha256})


def _note(export: StatementExport, *, after: dict[str, object], reason: str = "") -> None:
    audit.record(
        EXPORT,
        ("ledger.ledgeraccount", str(export.account_id)),
        organization_id=export.organization_id,
        actor=export.actor,
        reason=reason,
        after=after,
    )


def _lines(export: StatementExport) -> Iterator[str]:
    first = _page(export, None)
    head = StatementHead(
        code=first.code,
        currency=first.currency,
        clock=first.clock,
        kind=export.terms.kind,
        since=first.since,
        until=first.until,
        as_of=export.started_at,
        opening_minor=first.opening_minor,
        closing_minor=first.closing_minor,
    )
    return write_statement(head, _rows(export, first))


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
        after=after,
        limit=PAGE_ROWS,
    )
