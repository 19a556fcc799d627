"""
The posting engine's shell: lock, decide, write; one path for one command and for thousands.

What needs no deciding may be posted without it (`_plain`, `_plain_batch`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core import statements, transactions
from apps.core.actors import Actor
from apps.ledger import queries, rules
from apps.ledger.errors import (
    InsufficientFunds,
    LaterBalanceBelowFloor,
    LinkedCommandFailed,
)
from apps.ledger.operations import _crossings, _state, _writing
from apps.ledger.operations._origin import Origin
from apps.ledger.queries import PendingBalances
from apps.ledger.rules import (
    BalanceState,
    Command,
    ExpireHold,
    HoldState,
    HoldStatus,
    Outcome,
    PostEntry,
    State,
    Transfer,
)

# Two transactions may post under one new reference at once; the later one runs again and finds it.
transactions.run_again_on_unique("journal_entry_reference_is_unique")
transactions.run_again_on_unique("open_hold_reference_is_unique")
transactions.run_again_on_unique("hold_reference_is_unique")

_PORTION: Final = 500


@transactions.required
def post(
    *, organization_id: UUID, commands: Sequence[Command], actor: Actor, now: datetime
) -> list[Outcome]:
    """
    Apply commands all or none, as part of a larger act; what other apps call.

    A command whose reference stands already, with the same legs, is `replayed`: nothing moves.

    :raises Refusal: the first refused command's own, with its `index`
    """
    outcomes, _ = run(
        organization_id=organization_id,
        commands=commands,
        origins=[Origin.of(actor)],
        now=now,
        atomic=True,
        reach_internal=True,
    )
    return outcomes


@transactions.required
def run(
    *,
    organization_id: UUID,
    commands: Sequence[Command],
    origins: Sequence[Origin],
    now: datetime,
    atomic: bool,
    reach_internal: bool,
    locked: PendingBalances | None = None,
) -> tuple[list[Outcome], statements.Answer | None]:
    """
    Lock what the commands name, decide one after the other, and write what was decided.

    Beside the outcomes: what tells when they were recorded, as `_writing.write` does.

    `locked`: their balances, if they were locked in the trip before; for transfers, which have no
    holds, whose locks would come first.

    :raises Refusal: in `atomic` mode, the first refused command's own
    """
    state = _state.lock(organization_id, commands, locked, now=now, reach_internal=reach_internal)
    stale = _over(state)
    if stale:
        raise _after_release(organization_id, _state.accounts_of(stale.values()), now)
    after, outcomes = rules.apply(state, commands)
    _release_expired(organization_id, state, outcomes)
    if atomic:
        raise_first(outcomes)
    recorded = _write(organization_id, state, after, outcomes, origins=origins, now=now)
    return outcomes, recorded


@transactions.required
def run_together(
    *,
    organization_id: UUID,
    entries: Sequence[PostEntry],
    actor: Actor,
    now: datetime,
    reach_internal: bool,
) -> list[Outcome]:
    """
    Post entries as one act, all or none, whose funds are checked by what it all comes to.

    :raises Refusal: an entry's own, with its `index`; or that of the whole, without one
    """
    state = _state.lock(organization_id, entries, None, now=now, reach_internal=reach_internal)
    after, outcomes = rules.apply_together(state, entries)
    _release_expired(organization_id, state, outcomes)
    raise_first(outcomes)
    _write(
        organization_id, state, after, outcomes,
        origins=[Origin.of(actor)], now=now, is_one_act=True,
    )  # fmt: skip
    return outcomes


def _write(
    organization_id: UUID,
    state: State,
    after: State,
    outcomes: Sequence[Outcome],
    *,
    origins: Sequence[Origin],
    now: datetime,
    is_one_act: bool = False,
) -> statements.Answer | None:
    recorded = _writing.write(
        organization_id=organization_id,
        before=state.balances,
        after=after,
        outcomes=outcomes,
        origins=origins,
        now=now,
    )
    if any(balance.monitored for balance in state.balances.values()):
        _crossings.tell_crossings(
            organization_id=organization_id,
            balances=state.balances,
            outcomes=outcomes,
            origins=origins,
            now=now,
            is_one_act=is_one_act,
        )
    return recorded


def preview(
    *,
    organization_id: UUID,
    commands: Sequence[Command],
    now: datetime,
    reach_internal: bool = False,
    opened: Iterable[BalanceState] = (),
) -> tuple[State, list[Outcome]]:
    """
    Return what `run` would decide, by the same rules over the same rows, without a lock.

    It reads as of one instant in a transaction that Postgres lets write nothing. `opened` are
    accounts that the act would open first.
    """
    return _preview(
        organization_id,
        commands,
        rules.apply,
        now=now,
        reach_internal=reach_internal,
        opened=opened,
    )


def preview_together(
    *, organization_id: UUID, entries: Sequence[PostEntry], now: datetime, reach_internal: bool
) -> list[Outcome]:
    """Return what `run_together` would decide, as `preview` does of `run`."""
    _, outcomes = _preview(
        organization_id, entries, rules.apply_together, now=now, reach_internal=reach_internal
    )
    return outcomes


def _preview[C: Command](
    organization_id: UUID,
    commands: Sequence[C],
    decide: Callable[[State, Sequence[C]], tuple[State, list[Outcome]]],
    *,
    now: datetime,
    reach_internal: bool,
    opened: Iterable[BalanceState] = (),
) -> tuple[State, list[Outcome]]:
    with transactions.snapshot():
        state = _state.read(organization_id, commands, now=now, reach_internal=reach_internal)
        state.balances |= {balance.id: balance for balance in opened}
        # What `run` would release in transactions of their own, in this order.
        stale = _over(state)
        if stale:
            state = _released(organization_id, state, _state.accounts_of(stale.values()))
        after, outcomes = decide(state, commands)
        # As often as `run` would run again: each time there are fewer of them.
        while ids := _in_need_of_release(state, outcomes):
            released = _released(organization_id, state, ids)
            if released is state:
                break
            state = released
            after, outcomes = decide(state, commands)
        rules.forget_unmade(outcomes)
        return after, outcomes


def _released(organization_id: UUID, state: State, account_ids: Iterable[UUID]) -> State:
    """Return the state after the holds on these accounts ended whose time is over; else itself."""
    if state.now is None:
        return state
    found = queries.read_expired_holds(
        organization_id=organization_id, account_ids=account_ids, now=state.now
    )
    # Some may have been released in this state already, and still are open in their rows.
    ended = {id_ for id_, hold in state.holds.items() if hold.status != HoldStatus.OPEN}
    expired = {id_: hold for id_, hold in found.items() if id_ not in ended}
    if not expired:
        return state
    missing = [id_ for id_ in _state.accounts_of(expired.values()) if id_ not in state.balances]
    state.balances |= queries.read_balances(organization_id=organization_id, account_ids=missing)
    state.holds |= expired
    # Its own act, whoever asks: a hold of Kassa's own may be in the way of a client's.
    after, _ = rules.apply(
        replace(state, reach_internal=True), [ExpireHold(hold_id=id_) for id_ in expired]
    )
    return replace(after, reach_internal=state.reach_internal)


def raise_first(outcomes: Sequence[Outcome]) -> None:
    """
    Raise the first refusal, if there is one, with its `index` where there are several commands.

    What refuses them as a whole is no one's own, and has none. Nothing of them stands then.
    """
    rules.forget_unmade(outcomes)
    refused = [(i, o.refusal) for i, o in enumerate(outcomes) if o.refusal is not None]
    # Of a linked chain the guilty command is named, not the ones that fell with it.
    guilty = [found for found in refused if found[1].code != LinkedCommandFailed.code] or refused
    for index, refusal in guilty[:1]:
        if any(outcome.refusal is not refusal for outcome in outcomes):
            refusal.details["index"] = index
        raise refusal


def _over(state: State) -> dict[UUID, HoldState]:
    """Return the open holds whose reference is asked for again, and whose time is over."""
    now = state.now
    return {
        id_: state.holds[id_]
        for id_ in state.known_holds.values()
        if now is not None
        and state.holds[id_].status == HoldStatus.OPEN
        and (expires_at := state.holds[id_].expires_at) is not None
        and expires_at <= now
    }


def _after_release(
    organization_id: UUID, account_ids: Iterable[UUID], now: datetime
) -> transactions.RunAgainAfter:
    """Return what ends this transaction, has expired holds released in another, and tries anew."""
    ids = set(account_ids)

    def release() -> None:
        # In portions, until none is left that nobody else holds.
        while (
            expire_holds(organization_id=organization_id, account_ids=ids, now=now, limit=_PORTION)
            == _PORTION
        ):
            pass

    return transactions.RunAgainAfter(release)


def _release_expired(organization_id: UUID, state: State, outcomes: Sequence[Outcome]) -> None:
    """Release holds whose time is over where it matters, and have the whole decided again."""
    ids, now = _in_need_of_release(state, outcomes), state.now
    if ids and now is not None:
        release_expired(organization_id=organization_id, account_ids=ids, now=now)


def release_expired(*, organization_id: UUID, account_ids: Iterable[UUID], now: datetime) -> None:
    """
    Release the holds on these accounts whose time is over, and have the whole decided again.

    Expiry is decided by the clock and not by whether the sweeper ran. Their locks come before
    those of balances, which are held by now: so this transaction ends, another one releases them,
    and a third decides. Where there are none, nothing happens.
    """
    ids = set(account_ids)
    if queries.has_expired_holds(organization_id=organization_id, account_ids=ids, now=now):
        raise _after_release(organization_id, ids, now)


def _in_need_of_release(state: State, outcomes: Sequence[Outcome]) -> set[UUID]:
    """Return the accounts with money reserved where holds that are over would tell."""
    return _short_of_money(state, outcomes) | _watched(state, outcomes)


def _watched(state: State, outcomes: Sequence[Outcome]) -> set[UUID]:
    """
    Return the monitored accounts that these outcomes move, and on which money is reserved.

    A monitor sees each balance as it stood by the clock: else it would miss that one was back in
    between. What gives back such money itself is on the way there.
    """
    reserved = {id_ for id_, b in state.balances.items() if b.monitored and b.pending_out}
    # Of nearly every batch there is none, and then its outcomes are not gone through.
    return reserved and {
        after.id
        for outcome in outcomes
        if not isinstance(outcome.command, ExpireHold)
        for after in outcome.balances
        if after.id in reserved
    }


def _short_of_money(state: State, outcomes: Sequence[Outcome]) -> set[UUID]:
    """
    Return, if a command lacked money, the accounts of all commands on which some is reserved.

    Of all: the next one of a chain is not asked for money before the first one has it.
    """
    if not any(_lacks_money(outcome) for outcome in outcomes):
        return set()
    return {
        account_id
        for outcome in outcomes
        for account_id in _state.named(outcome.command, state.holds)
        if account_id in state.balances and state.balances[account_id].pending_out
    }


def _lacks_money(outcome: Outcome) -> bool:
    command = outcome.command
    if isinstance(command, Transfer) and command.up_to and outcome.lines:
        return outcome.lines[0].amount_minor < command.amount_minor
    return isinstance(outcome.refusal, InsufficientFunds | LaterBalanceBelowFloor)


@transactions.outermost
def expire_holds(
    *,
    organization_id: UUID,
    now: datetime,
    account_ids: Iterable[UUID] | None = None,
    limit: int = _PORTION,
) -> int:
    """
    Release open holds whose time is over, all or those on these accounts; return how many.

    Calling it again, or twice at once, releases nothing twice.
    """
    holds = queries.lock_expired_holds(
        organization_id=organization_id, account_ids=account_ids, now=now, limit=limit
    )
    if holds:
        run(
            organization_id=organization_id,
            commands=[ExpireHold(hold_id=id_) for id_ in holds],
            origins=[Origin.of(Actor.job("ledger"))],
            now=now,
            atomic=True,
            reach_internal=True,
        )
    return len(holds)
