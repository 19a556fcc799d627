"""A trial balance that leaves the house as a file: the lines of its screen, none of them cut."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Final
from uuid import UUID

from apps.accounts import queries as accounts
from apps.core import idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.formats.trial_balance import TrialHead, TrialRow, write_trial_balance
from apps.ledger.operations._file_export import (
    EXPORT,
    FileExport,
    bounded,
    note_begun,
    write_file,
)

# Whoever takes the file out may also see the screen.
SCREEN: Final = "ledger.view_ledger"
_INSTEAD: Final = "Narrow it to a branch or a currency, or read its pages over the API."


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalanceTerms:
    """Which trial balance: of a month, or of now; of a branch and a currency, or of all."""

    month: date | None = None
    code_prefix: str = ""
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalanceExport(FileExport):
    """An export of a trial balance."""

    terms: TrialBalanceTerms


@transactions.outermost
def begin_trial_balance_export(
    *,
    organization_id: UUID,
    terms: TrialBalanceTerms,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> TrialBalanceExport:
    """
    Note that somebody takes a trial balance out of the house, and return what may be written.

    Replaying the key notes that it is taken out again; the file holds the books as they are then.

    :raises CapabilityMissing: if the actor is staff who may not export, or not see the books
    :raises OrganizationNotFound: if the actor is staff who may not see the organisation
    """
    month = f"{terms.month:%Y-%m}" if terms.month else ""
    asked = [month, terms.code_prefix, terms.currency]
    claim = idempotency.claim(
        organization_id, idempotency_key, "export_trial_balance", *asked, reason
    )
    for capability in (SCREEN, EXPORT):
        accounts.require_capability(
            actor=actor, capability=capability, organization_id=organization_id
        )
    export = TrialBalanceExport(
        id=claim.resource_id,
        organization_id=organization_id,
        subject=("accounts.organization", str(organization_id)),
        actor=actor,
        started_at=now,
        terms=terms,
    )
    note_begun(
        export,
        reason=reason,
        asked={
            "list": "trial_balance",
            "period": month,
            "code": terms.code_prefix,
            "currency": terms.currency,
        },
        is_again=claim.replayed,
    )
    return export


def write_trial_balance_export(export: TrialBalanceExport) -> Iterator[bytes]:
    """
    Read the file as of one instant and return it; what it held is noted when it was sent.

    :raises ExportTooLarge: if there are more lines than one file may have
    :raises ExportTooSlow: if Postgres needs longer for them than a request may
    """
    return write_file(export, partial(_lines, export), instead=_INSTEAD)


def _lines(export: TrialBalanceExport, as_of: datetime) -> Iterator[str]:
    # Of a month it depends on its state, which is read in the same snapshot as the lines.
    terms, owner = export.terms, export.organization_id
    view = queries.view_period(organization_id=owner, month=terms.month) if terms.month else None
    head = TrialHead(
        organization=encode_id("org", owner),
        month=view.name if view else "",
        state=view.state if view else "",
        closing=view.row.closings if view and view.is_stored and view.row else 0,
        branch=terms.code_prefix,
        currency=terms.currency,
        as_of=as_of,
    )
    lines = queries.stream_lines(
        organization_id=owner, view=view, code_prefix=terms.code_prefix, currency=terms.currency
    )
    yield from write_trial_balance(
        head,
        (
            TrialRow(
                line.code, line.type, line.accounts, currency, line.opening, line.debits,
                line.credits,
            )
            for currency, line in bounded(lines, instead=_INSTEAD)
        ),
    )  # fmt: skip
