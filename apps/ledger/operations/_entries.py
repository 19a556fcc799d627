"""A client's own entries of several legs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core import idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import new_id
from apps.ledger import queries, rules
from apps.ledger.operations import _engine, _forced
from apps.ledger.operations._origin import Origin
from apps.ledger.rules import BalanceAfter, Leg, Outcome, PostEntry

_KIND: Final = "entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRequest:
    """An entry as a client asks for it: legs with their currencies, each summing to zero."""

    legs: tuple[Leg, ...]
    reference: str | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    force: bool = False


@dataclass(frozen=True, slots=True)
class EntryResult:
    """The entry that stands, and its accounts' balances right after it; in a replay, now."""

    entry_id: UUID
    balances: tuple[BalanceAfter, ...]


@transactions.outermost
def post_entry(
    *,
    organization_id: UUID,
    entry: EntryRequest,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> EntryResult:
    """
    Post one of a client's entries, over as many accounts as it has legs.

    With `force` a back-dated one may break a balance of the past, never one from now on; that is
    audited. Replaying the key, or asking again under the same reference, answers the entry that
    stands.

    :raises EntryNotBalanced: if the legs do not sum to zero in each currency
    :raises SameLedgerAccount: if an account is named twice
    :raises LedgerAccountsNotFound: if the organisation has no such account
    :raises LedgerAccountReserved: if an account is posted to by Kassa's own acts only
    :raises CurrencyMismatch: if a leg is not in its account's currency
    :raises InsufficientFunds: if an account's floor would be broken
    :raises LaterBalanceBelowFloor: if a balance after its time would be; if forced, one from now on
    :raises PeriodClosed: if its month is closed
    :raises ReferenceReserved: if the reference begins as those of Kassa's own acts do
    :raises ReferenceReused: if the reference stands for another entry
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "post_entry", *_parts(entry), prefix="je"
    )
    if claim.replayed:
        return _replayed(organization_id, claim.resource_id, entry)
    [outcome], _ = _engine.run(
        organization_id=organization_id,
        commands=[_command(claim.resource_id, entry)],
        origins=[Origin.of(actor)],
        now=now,
        atomic=True,
        reach_internal=False,
    )
    _forced.record_forced(organization_id, [(outcome, actor, None)])
    entry_id = outcome.entry_id or claim.resource_id
    if entry_id != claim.resource_id:
        # Its reference stood for an entry already: from now on the key stands for that one too.
        idempotency.answer_with(organization_id, idempotency_key, entry_id)
        return _replayed(organization_id, entry_id, entry)
    return EntryResult(entry_id, outcome.balances)


def _replayed(organization_id: UUID, entry_id: UUID, entry: EntryRequest) -> EntryResult:
    touched = [leg.account_id for leg in entry.legs]
    return EntryResult(
        entry_id, queries.balances_now(organization_id=organization_id, account_ids=touched)
    )


def preview_entry(*, organization_id: UUID, entry: EntryRequest, now: datetime) -> Outcome:
    """
    Return what `post_entry` would do, by the same path, and write nothing at all.

    :raises Refusal: the one that it would be refused with
    """
    _, outcomes = _engine.preview(
        organization_id=organization_id, commands=[_command(new_id(), entry)], now=now
    )
    _engine.raise_first(outcomes)
    return outcomes[0]


def _parts(entry: EntryRequest) -> list[object]:
    """Return what makes two requests the same one."""
    parts: list[object] = [
        [list(leg) for leg in entry.legs],
        entry.reference,
        entry.description,
        entry.effective_at,
        dict(entry.metadata),
    ]
    # Left out where it is not asked for: keys of requests that did not know it still fit.
    return [*parts, entry.force] if entry.force else parts


def _command(id_: UUID, entry: EntryRequest) -> PostEntry:
    rules.check_balanced(entry.legs)
    return PostEntry(
        id=id_,
        legs=entry.legs,
        currency=entry.legs[0].currency,
        kind=_KIND,
        reference=entry.reference,
        description=entry.description,
        effective_at=entry.effective_at,
        metadata=entry.metadata,
        force=entry.force,
    )
