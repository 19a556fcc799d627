"""How entries are undone: read under locks, their opposites posted as one act, and kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from apps.core import audit, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_ids
from apps.ledger import errors, queries, rules
from apps.ledger.models import TransferBatch
from apps.ledger.operations import _engine
from apps.ledger.queries import EntryView, StandingEntry
from apps.ledger.rules import BalanceAfter, Leg, Outcome, PostEntry

type ReversalTime = Literal["now", "original"]

# Two transactions may reverse one entry at once; the later one runs again and finds it reversed.
transactions.run_again_on_unique("journal_entry_is_reversed_once")


@dataclass(frozen=True, slots=True)
class ReversalResult:
    """The entries that undid the asked ones, in their order; balances right after, or now."""

    entry_ids: tuple[UUID, ...]
    balances: tuple[BalanceAfter, ...] = ()


def undo(
    organization_id: UUID,
    entries: Sequence[StandingEntry],
    *,
    at: ReversalTime,
    reason: str,
    actor: Actor,
    now: datetime,
    reach_internal: bool,
) -> tuple[list[UUID], list[Outcome]]:
    """Post the opposites of these entries as one act; return their ids, and what they left."""
    commands = _opposites(entries, at)
    outcomes = _engine.run_together(
        organization_id=organization_id,
        entries=commands,
        actor=actor,
        now=now,
        reach_internal=reach_internal,
    )
    reversals = [command.id for command in commands]
    record(organization_id, entries, reversals, reason=reason, actor=actor)
    return reversals, outcomes


def preview(
    organization_id: UUID,
    entries: Sequence[StandingEntry],
    *,
    at: ReversalTime,
    now: datetime,
    reach_internal: bool,
) -> ReversalResult:
    """Return what `undo` would leave, and write nothing."""
    outcomes = _engine.preview_together(
        organization_id=organization_id,
        entries=_opposites(entries, at),
        now=now,
        reach_internal=reach_internal,
    )
    _engine.raise_first(outcomes)
    return result((), outcomes)


def lock(organization_id: UUID, entry_ids: Sequence[UUID]) -> list[StandingEntry]:
    """
    Return the entries, read under the locks of all their accounts.

    :raises JournalEntryNotFound: if the organisation lacks one of them
    :raises ReversalTooLarge: if they have more postings than are undone at once
    """
    legs = _legs(organization_id, entry_ids)
    # Their accounts are locked first, so that of two reversals the later one reads the earlier.
    accounts = {leg.account_id for each in legs.values() for leg in each}
    queries.lock_balances(organization_id=organization_id, account_ids=accounts)
    return queries.get_standing_entries(
        organization_id=organization_id, entry_ids=entry_ids, legs=legs
    )


def read(organization_id: UUID, entry_ids: Sequence[UUID]) -> list[StandingEntry]:
    """Return what `lock` does, and lock nothing."""
    legs = _legs(organization_id, entry_ids)
    return queries.get_standing_entries(
        organization_id=organization_id, entry_ids=entry_ids, legs=legs
    )


def _legs(organization_id: UUID, entry_ids: Sequence[UUID]) -> dict[UUID, list[Leg]]:
    # One more than may be undone is read, to be refused.
    legs = queries.list_legs(
        organization_id=organization_id, entry_ids=entry_ids, limit=rules.UNDONE_POSTINGS_MAX + 1
    )
    rules.check_undone_at_once(sum(map(len, legs.values())))
    return legs


def _opposites(entries: Sequence[StandingEntry], at: ReversalTime) -> list[PostEntry]:
    """Return the commands that undo these entries, or raise why one cannot be, with its place."""
    ids = new_ids(len(entries))
    commands = []
    seen: set[UUID] = set()
    for index, (entry, id_) in enumerate(zip(entries, ids, strict=True)):
        try:
            if entry.id in seen:
                raise errors.AlreadyReversed(
                    "The set names this journal entry twice.",
                    journal_entry=encode_id("je", entry.id),
                )
            commands.append(opposite(entry, id_, at=at, reference=None))
        except Refusal as refusal:
            if len(entries) > 1:
                refusal.details["index"] = index
            raise
        seen.add(entry.id)
    return commands


def refuse_undone(entry: EntryView | StandingEntry) -> None:
    """
    Refuse an entry that no reversal is for, whatever stands on its accounts.

    :raises AlreadyReversed: if it was reversed
    :raises NotReversible: if it is a reversal itself
    """
    if entry.reversed_by is not None:
        raise _already(entry.reversed_by)
    if entry.reverses is not None:
        raise errors.NotReversible(
            "A reversal is not reversed: post the entry again.",
            reverses=encode_id("je", entry.reverses),
        )


def opposite(
    entry: StandingEntry, id_: UUID, *, at: ReversalTime, reference: str | None
) -> PostEntry:
    """Return the command that undoes an entry, or raise as `refuse_undone` does."""
    refuse_undone(entry)
    return PostEntry(
        id=id_,
        legs=tuple(Leg(leg.account_id, -leg.amount_minor, leg.currency) for leg in entry.legs),
        currency=entry.legs[0].currency,
        kind="reversal",
        reference=reference,
        description=f"Reversal: {entry.description}"[:500] if entry.description else "Reversal",
        effective_at=entry.effective_at if at == "original" else None,
        reverses=entry.id,
    )


def _already(reversal_id: UUID) -> Refusal:
    return errors.AlreadyReversed(
        "This journal entry was reversed.", reversal=encode_id("je", reversal_id)
    )


def record(
    organization_id: UUID,
    entries: Sequence[StandingEntry],
    reversals: Sequence[UUID],
    *,
    reason: str,
    actor: Actor,
) -> None:
    """Write in the audit trail which entry each of these was undone by, and why."""
    # One statement: the balances of the whole set are locked by now.
    audit.record_all(
        [
            audit.row(
                "ledger.reverse_entry",
                ("ledger.journalentry", str(entry.id)),
                organization_id=organization_id,
                actor=actor,
                reason=reason,
                after={"reversal": encode_id("je", reversal_id)},
            )
            for entry, reversal_id in zip(entries, reversals, strict=True)
        ]
    )


def keep(organization_id: UUID, batch_id: UUID, reversals: list[UUID], *, now: datetime) -> None:
    """Keep what a request made, so that `replayed` says the same."""
    TransferBatch.objects.create(
        id=batch_id,
        organization_id=organization_id,
        mode="reversal",
        entry_ids=reversals,
        refusals={},
        created_at=now,
    )


def replayed(organization_id: UUID, batch_id: UUID) -> ReversalResult:
    """Return what `keep` kept, with the balances of now: those right after were not kept."""
    batch = TransferBatch.objects.get(organization_id=organization_id, id=batch_id)
    made = [id_ for id_ in batch.entry_ids if id_ is not None]
    touched = queries.accounts_of_entries(organization_id=organization_id, entry_ids=made)
    return ReversalResult(
        tuple(made),
        queries.balances_now(organization_id=organization_id, account_ids=sorted(touched)),
    )


def result(reversals: Sequence[UUID], outcomes: Sequence[Outcome]) -> ReversalResult:
    """Return the entries made, and each touched account as the last of them left it."""
    return ReversalResult(
        tuple(reversals),
        tuple({after.id: after for o in outcomes for after in o.balances}.values()),
    )
