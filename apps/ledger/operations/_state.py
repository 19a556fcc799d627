"""What the engine decides over: holds and balances, locked or read, and what some batches need."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.ledger import queries, rules
from apps.ledger.queries import PendingBalances
from apps.ledger.rules import (
    BalanceState,
    CaptureHold,
    Command,
    HoldState,
    PlaceHold,
    PostEntry,
    State,
    Transfer,
)

_DATED: Final = (Transfer, PostEntry, CaptureHold)


def lock(
    organization_id: UUID,
    commands: Sequence[Command],
    locked: PendingBalances | None,
    *,
    now: datetime,
    reach_internal: bool,
) -> State:
    """Lock holds, then balances, each ascending; then read what stands under the references."""
    holds: dict[UUID, HoldState] = {}
    if locked is not None:
        balances = locked.read()
    else:
        accounts, hold_ids = rules.touched(commands)
        if hold_ids:
            holds = queries.lock_holds(organization_id=organization_id, hold_ids=hold_ids)
        accounts |= accounts_of(holds.values())
        balances = queries.lock_balances(organization_id=organization_id, account_ids=accounts)
    return _complete(
        organization_id, commands, balances, holds, now=now, reach_internal=reach_internal
    )


def read(
    organization_id: UUID, commands: Sequence[Command], *, now: datetime, reach_internal: bool
) -> State:
    """Read what `lock` does, and lock nothing."""
    accounts, hold_ids = rules.touched(commands)
    holds = queries.read_holds(organization_id=organization_id, hold_ids=hold_ids)
    accounts |= accounts_of(holds.values())
    balances = queries.read_balances(organization_id=organization_id, account_ids=accounts)
    return _complete(
        organization_id, commands, balances, holds, now=now, reach_internal=reach_internal
    )


def accounts_of(holds: Iterable[HoldState]) -> set[UUID]:
    """Return the accounts that these holds reserve money on, and for."""
    return {id_ for hold in holds for id_ in (hold.debit_account_id, hold.credit_account_id)}


def _complete(
    organization_id: UUID,
    commands: Sequence[Command],
    balances: dict[UUID, BalanceState],
    holds: dict[UUID, HoldState],
    *,
    now: datetime,
    reach_internal: bool,
) -> State:
    """Read what only some batches need: references, months that are closed, later balances."""
    references = [c.reference for c in commands if isinstance(c, _DATED) and c.reference]
    known = queries.find_entries_by_reference(
        organization_id=organization_id, references=references
    )
    held = queries.find_holds_by_reference(
        organization_id=organization_id,
        references=[c.reference for c in commands if isinstance(c, PlaceHold) and c.reference],
    )
    # A month closes an hour after its end at the earliest: what happens now is in none of them.
    dated = [c.effective_at for c in commands if isinstance(c, _DATED) and c.effective_at]
    closed = (
        queries.closed_periods(organization_id=organization_id, instants=dated) if dated else []
    )
    return State(
        balances,
        holds | {hold.id: hold for hold in held.values()},
        known,
        {reference: hold.id for reference, hold in held.items()},
        now=now,
        reach_internal=reach_internal,
        later=queries.later_balances(
            organization_id=organization_id,
            balances=balances,
            instants=_back_dated(commands, balances, holds, now=now),
        ),
        closed=closed,
    )


def _back_dated(
    commands: Sequence[Command],
    balances: Mapping[UUID, BalanceState],
    holds: Mapping[UUID, HoldState],
    *,
    now: datetime,
) -> dict[UUID, list[datetime]]:
    """Return the business times, per account with a floor, of which one is before a posting."""
    if not any(getattr(command, "effective_at", None) for command in commands) and not any(
        b.latest_effective_at is not None and b.latest_effective_at > now + rules.CLOCK_SKEW
        for b in balances.values()
    ):
        return {}
    # What has no time of its own happens at one of these: see `rules.CLOCK_SKEW`. And from `now` on
    # what holds reserve is missing, so a step of the balance ends there.
    asked = [getattr(command, "effective_at", None) for command in commands]
    seen = [*asked, *(balance.latest_effective_at for balance in balances.values())]
    moments = {now, *(at for at in seen if at and now < at <= now + rules.CLOCK_SKEW)}
    found: dict[UUID, set[datetime]] = {}
    for command, at in zip(commands, asked, strict=True):
        for account_id in named(command, holds):
            balance = balances.get(account_id)
            if balance is not None and balance.min_available_minor is not None:
                found.setdefault(account_id, set()).update({now, at} if at else moments)
    return {
        account_id: sorted(instants)
        for account_id, instants in found.items()
        if min(instants) < max(*instants, balances[account_id].latest_effective_at or now)
    }


def named(command: Command, holds: Mapping[UUID, HoldState]) -> set[UUID]:
    """Return the accounts of a command, its hold's too."""
    accounts, held = rules.touched([command])
    return accounts | accounts_of(holds[id_] for id_ in held if id_ in holds)
