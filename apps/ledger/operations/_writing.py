"""
What the engine writes: the same few set-based statements for one command and for ten thousand.

Entries, postings and balances go in one statement, so the trigger that balances them sees each
entry whole, and a transfer costs one round trip.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection

from apps.core import outbox
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.ledger import events
from apps.ledger.models import Hold, HoldEvent
from apps.ledger.rules import (
    BalanceState,
    CaptureHold,
    Outcome,
    PlaceHold,
    PostEntry,
    State,
    VoidHold,
)

_WRITE: Final = """
    WITH clock AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ), entries AS (
        INSERT INTO ledger_journal_entry
            (id, organization_id, kind, reference, description, effective_at, recorded_at,
             reverses_id, actor, metadata)
        SELECT e.id, %(org)s, e.kind, e.reference, e.description, e.effective_at,
               clock.now, e.reverses, %(actor)s, e.metadata::jsonb
          FROM clock, unnest(%(entry_ids)s::uuid[], %(kinds)s::text[], %(references)s::text[],
                      %(descriptions)s::text[], %(effective)s::timestamptz[],
                      %(reverses)s::uuid[], %(metadata)s::text[])
               AS e(id, kind, reference, description, effective_at, reverses, metadata)
    ), postings AS (
        INSERT INTO ledger_posting
            (organization_id, entry_id, number, account_id, amount_minor, currency,
             account_version, balance_after_minor, effective_at, recorded_at)
        SELECT %(org)s, p.entry_id, p.number, p.account_id, p.amount, p.currency, p.version,
               p.balance_after, p.effective_at, clock.now
          FROM clock, unnest(%(posting_entries)s::uuid[], %(numbers)s::int[], %(accounts)s::uuid[],
                      %(amounts)s::bigint[], %(currencies)s::text[], %(versions)s::bigint[],
                      %(after)s::bigint[], %(posting_effective)s::timestamptz[])
               AS p(entry_id, number, account_id, amount, currency, version, balance_after,
                    effective_at)
    )
    UPDATE ledger_balance AS b
       SET posted_debits = n.posted_debits, posted_credits = n.posted_credits,
           pending_debits = n.pending_debits, pending_credits = n.pending_credits,
           version = n.version
      FROM unnest(%(balance_ids)s::uuid[], %(pd)s::bigint[], %(pc)s::bigint[], %(nd)s::bigint[],
                  %(nc)s::bigint[], %(bv)s::bigint[])
           AS n(id, posted_debits, posted_credits, pending_debits, pending_credits, version)
     WHERE b.organization_id = %(org)s AND b.id = n.id
"""


def write(
    *,
    organization_id: UUID,
    before: Mapping[UUID, BalanceState],
    after: State,
    outcomes: Sequence[Outcome],
    actor: Actor,
    now: datetime,
) -> None:
    """Write what was decided: entries, postings, balances, holds, and an event per entry."""
    posted = [outcome for outcome in outcomes if outcome.lines]
    changed = [balance for id_, balance in after.balances.items() if _differs(before[id_], balance)]
    if not changed and not any(outcome.status in {"held", "voided"} for outcome in outcomes):
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _WRITE,
            {
                "org": organization_id,
                "actor": str(actor),
                **_entry_columns(posted, now),
                **_posting_columns(posted, now),
                **_balance_columns(changed),
            },
        )
    _write_holds(organization_id, after, outcomes, now)
    for outcome in posted:
        _publish(organization_id, outcome, actor, now)


def _differs(old: BalanceState, new: BalanceState) -> bool:
    return (
        old.version != new.version
        or old.pending_debits != new.pending_debits
        or old.pending_credits != new.pending_credits
    )


def _entry_columns(posted: Sequence[Outcome], now: datetime) -> dict[str, list[object]]:
    commands = [o.command for o in posted if isinstance(o.command, PostEntry | CaptureHold)]
    return {
        "entry_ids": [outcome.entry_id for outcome in posted],
        "kinds": [command.kind for command in commands],
        "references": [command.reference for command in commands],
        "descriptions": [command.description for command in commands],
        "effective": [command.effective_at or now for command in commands],
        "reverses": [getattr(command, "reverses", None) for command in commands],
        "metadata": [json.dumps(dict(command.metadata)) for command in commands],
    }


def _posting_columns(posted: Sequence[Outcome], now: datetime) -> dict[str, list[object]]:
    lines = [
        (outcome.entry_id, number, line)
        for outcome in posted
        for number, line in enumerate(outcome.lines, 1)
    ]
    return {
        "posting_entries": [entry_id for entry_id, _, _ in lines],
        "numbers": [number for _, number, _ in lines],
        "accounts": [line.account_id for _, _, line in lines],
        "amounts": [line.amount_minor for _, _, line in lines],
        "currencies": [line.currency for _, _, line in lines],
        "versions": [line.account_version for _, _, line in lines],
        "after": [line.balance_after_minor for _, _, line in lines],
        "posting_effective": [
            getattr(outcome.command, "effective_at", None) or now
            for outcome in posted
            for _ in outcome.lines
        ],
    }


def _balance_columns(changed: Sequence[BalanceState]) -> dict[str, list[object]]:
    return {
        "balance_ids": [balance.id for balance in changed],
        "pd": [balance.posted_debits for balance in changed],
        "pc": [balance.posted_credits for balance in changed],
        "nd": [balance.pending_debits for balance in changed],
        "nc": [balance.pending_credits for balance in changed],
        "bv": [balance.version for balance in changed],
    }


def _write_holds(
    organization_id: UUID, after: State, outcomes: Sequence[Outcome], now: datetime
) -> None:
    placed, ended, history = [], [], []
    for outcome in outcomes:
        match outcome.command:
            case PlaceHold(id=id_) if outcome.status == "held":
                hold = _hold(organization_id, after, id_, now)
                placed.append(hold)
                history.append(_hold_event(hold, "placed", hold.amount_minor))
            case CaptureHold(hold_id=id_) if outcome.status == "posted":
                hold = _hold(organization_id, after, id_, now)
                ended.append(hold)
                history.append(_hold_event(hold, "captured", hold.captured_minor, outcome.entry_id))
            case VoidHold(hold_id=id_) if outcome.status == "voided":
                hold = _hold(organization_id, after, id_, now)
                ended.append(hold)
                history.append(_hold_event(hold, "voided", hold.amount_minor))
    if placed:
        Hold.objects.bulk_create(placed)
    if ended:
        Hold.objects.filter(organization_id=organization_id).bulk_update(
            ended, ["status", "captured_minor"]
        )
    if history:
        HoldEvent.objects.bulk_create(history)


def _hold(organization_id: UUID, after: State, hold_id: UUID, now: datetime) -> Hold:
    state = after.holds[hold_id]
    return Hold(
        id=state.id,
        organization_id=organization_id,
        debit_account_id=state.debit_account_id,
        credit_account_id=state.credit_account_id,
        currency=state.currency,
        amount_minor=state.amount_minor,
        captured_minor=state.captured_minor,
        status=state.status,
        reference=state.reference,
        expires_at=state.expires_at,
        created_at=now,
    )


def _hold_event(
    hold: Hold, kind: str, amount_minor: int, entry_id: UUID | None = None
) -> HoldEvent:
    return HoldEvent(
        organization_id=hold.organization_id,
        hold_id=hold.id,
        kind=kind,
        amount_minor=amount_minor,
        entry_id=entry_id,
        terminal=kind != "placed",
    )


def _publish(organization_id: UUID, outcome: Outcome, actor: Actor, now: datetime) -> None:
    command = outcome.command
    if outcome.entry_id is None or not isinstance(command, PostEntry | CaptureHold):
        return
    event = events.JournalEntryPosted(
        organization_id=organization_id,
        aggregate_id=encode_id("je", outcome.entry_id),
        occurred_at=now,
        kind=command.kind,
        reference=command.reference,
        effective_at=command.effective_at or now,
        postings=[
            {
                "ledger_account": encode_id("la", line.account_id),
                "amount": line.amount_minor,
                "currency": line.currency,
            }
            for line in outcome.lines
        ],
    )
    outbox.publish(event, actor=actor, now=now)
