"""The posting engine's core: commands applied in order to copies of the balances."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from uuid import UUID

from apps.core.errors import Refusal
from apps.core.ids import encode_id
from apps.ledger import errors
from apps.ledger.rules.values import (
    COUNTER_MAX,
    RESERVED_REFERENCES,
    AccountStatus,
    BalanceState,
    CaptureHold,
    Command,
    HoldState,
    HoldStatus,
    KnownEntry,
    Outcome,
    PlaceHold,
    PostedLine,
    PostEntry,
    State,
    VoidHold,
)


def apply(state: State, commands: Sequence[Command]) -> tuple[State, list[Outcome]]:
    """
    Apply commands in order; return the state after, and one outcome per command.

    A refused command changes nothing and the next still runs. A linked chain succeeds or fails as
    one: the guilty command carries its own refusal, the rest `linked_command_failed`.
    """
    work = State(
        balances={id_: copy(balance) for id_, balance in state.balances.items()},
        holds={id_: copy(hold) for id_, hold in state.holds.items()},
        known=dict(state.known),
        now=state.now,
        reach_internal=state.reach_internal,
    )
    outcomes: list[Outcome] = []
    for chain in chains(commands):
        outcomes += _apply_chain(work, chain)
    return work, outcomes


def chains(commands: Sequence[Command]) -> list[list[Command]]:
    """Split commands into chains: each `linked` one is tied to the next."""
    found: list[list[Command]] = []
    tied = False
    for command in commands:
        if tied:
            found[-1].append(command)
        else:
            found.append([command])
        tied = command.linked
    return found


def _apply_chain(state: State, chain: Sequence[Command]) -> list[Outcome]:
    if len(chain) == 1:
        return [_apply_one(state, chain[0])]
    undo = _snapshot(state, chain)
    outcomes: list[Outcome] = []
    for command in chain:
        outcome = _apply_one(state, command)
        if outcome.refusal is not None:
            undo()
            return [
                outcome if other is command else _refused(other, _linked_failed())
                for other in chain
            ]
        outcomes.append(outcome)
    return outcomes


def _snapshot(state: State, chain: Sequence[Command]) -> Callable[[], None]:
    """Return what puts the state back to before the chain; only what it names is copied."""
    accounts, _ = touched(chain)
    held = {command.hold_id for command in chain if isinstance(command, CaptureHold | VoidHold)}
    holds = {id_: copy(state.holds[id_]) for id_ in held if id_ in state.holds}
    for hold in holds.values():
        accounts |= {hold.debit_account_id, hold.credit_account_id}
    balances = {id_: copy(state.balances[id_]) for id_ in accounts if id_ in state.balances}
    placed = {command.id for command in chain if isinstance(command, PlaceHold)}
    references = {
        command.reference
        for command in chain
        if isinstance(command, PostEntry | CaptureHold) and command.reference
    } - state.known.keys()

    def undo() -> None:
        state.balances.update(balances)
        state.holds.update(holds)
        for id_ in placed:
            state.holds.pop(id_, None)
        for reference in references:
            state.known.pop(reference, None)

    return undo


def touched(commands: Sequence[Command]) -> tuple[set[UUID], set[UUID]]:
    """Return the accounts and the existing holds that commands name: what is to be locked."""
    accounts: set[UUID] = set()
    holds: set[UUID] = set()
    for command in commands:
        match command:
            case PostEntry():
                accounts.update(leg.account_id for leg in command.legs)
            case PlaceHold():
                accounts |= {command.debit_account_id, command.credit_account_id}
            case CaptureHold() | VoidHold():
                holds.add(command.hold_id)
    return accounts, holds


def _linked_failed() -> Refusal:
    return errors.LinkedCommandFailed("A command linked to this one was refused.")


def _refused(command: Command, refusal: Refusal) -> Outcome:
    return Outcome(command, "refused", refusal=refusal)


def _apply_one(state: State, command: Command) -> Outcome:
    try:
        return _APPLY[type(command)](state, command)
    except Refusal as refusal:
        return _refused(command, refusal)


def _post_entry(state: State, command: PostEntry) -> Outcome:
    legs = [
        (leg.account_id, leg.amount_minor, leg.currency or command.currency) for leg in command.legs
    ]
    if not state.reach_internal and (command.reference or "").startswith(RESERVED_REFERENCES):
        raise errors.ReferenceReserved("References that begin so are of Kassa's own acts.")
    known = state.known.get(command.reference) if command.reference else None
    if known is not None:
        return _replay(command, known, tuple(legs))
    balances = _accounts(state, legs)
    _check_funds(balances, legs)
    lines = tuple(_post(balances[account], amount) for account, amount, _ in legs)
    if command.reference:
        state.known[command.reference] = KnownEntry(command.id, tuple(legs))
    after = tuple(copy(balance) for balance in balances.values())
    return Outcome(
        command, "posted", entry_id=command.id, lines=lines, balances=after, posted_at=state.now
    )


def _replay(
    command: Command, known: KnownEntry, legs: tuple[tuple[UUID, int, str], ...]
) -> Outcome:
    if known.legs != legs:
        raise errors.ReferenceReused(
            "This reference stands for another journal entry.",
            journal_entry=encode_id("je", known.id),
        )
    return Outcome(command, "replayed", entry_id=known.id)


def _accounts(state: State, legs: Sequence[tuple[UUID, int, str]]) -> dict[UUID, BalanceState]:
    """Return the balances a set of legs names, in leg order; the first check to fail refuses."""
    found: dict[UUID, BalanceState] = {}
    for account_id, _, currency in legs:
        balance = state.balances.get(account_id)
        if balance is None:
            raise errors.LedgerAccountsNotFound(
                "There is no such ledger account.", ledger_account=encode_id("la", account_id)
            )
        if account_id in found:
            raise errors.SameLedgerAccount("An entry names each ledger account once.")
        _check_usable(balance, currency, reach_internal=state.reach_internal)
        found[account_id] = balance
    return found


def _check_usable(balance: BalanceState, currency: str, *, reach_internal: bool) -> None:
    account = encode_id("la", balance.id)
    if balance.internal and not reach_internal:
        raise errors.LedgerAccountReserved(
            "This ledger account is posted to by Kassa's own acts only.", ledger_account=account
        )
    if balance.status == AccountStatus.CLOSED:
        raise errors.LedgerAccountClosed("The ledger account is closed.", ledger_account=account)
    if balance.status == AccountStatus.FROZEN:
        raise errors.LedgerAccountFrozen("The ledger account is frozen.", ledger_account=account)
    if balance.currency != currency:
        raise errors.CurrencyMismatch(
            f"The ledger account is in {balance.currency}, not {currency}.", ledger_account=account
        )


def _check_funds(
    balances: Mapping[UUID, BalanceState], legs: Sequence[tuple[UUID, int, str]]
) -> None:
    """Refuse what would take an account below its floor; money that comes in never is refused."""
    for account_id, amount, _ in legs:
        balance = balances[account_id]
        outflow = amount if balance.credit_normal else -amount
        _check_outflow(balance, outflow)
        _check_room(balance, amount)


def _check_outflow(balance: BalanceState, outflow: int) -> None:
    floor = balance.min_available_minor
    if outflow > 0 and floor is not None and balance.available - outflow < floor:
        raise errors.InsufficientFunds(
            "The available balance does not cover this.",
            ledger_account=encode_id("la", balance.id),
            available=balance.available,
            requested=outflow,
            min_available=floor,
        )


def _check_room(balance: BalanceState, amount: int) -> None:
    debits = balance.posted_debits + balance.pending_debits
    credits_ = balance.posted_credits + balance.pending_credits
    if (debits + amount if amount > 0 else credits_ - amount) > COUNTER_MAX:
        raise errors.BalanceTooLarge(
            "No more can move over this ledger account.",
            ledger_account=encode_id("la", balance.id),
        )


def _post(balance: BalanceState, amount_minor: int) -> PostedLine:
    if amount_minor > 0:
        balance.posted_debits += amount_minor
    else:
        balance.posted_credits -= amount_minor
    balance.version += 1
    return PostedLine(
        account_id=balance.id,
        amount_minor=amount_minor,
        currency=balance.currency,
        account_version=balance.version,
        balance_after_minor=balance.posted,
    )


def _place_hold(state: State, command: PlaceHold) -> Outcome:
    debit, credit = command.debit_account_id, command.credit_account_id
    legs = [
        (debit, command.amount_minor, command.currency),
        (credit, -command.amount_minor, command.currency),
    ]
    balances = _accounts(state, legs)
    _check_funds(balances, legs)
    balances[debit].pending_debits += command.amount_minor
    balances[credit].pending_credits += command.amount_minor
    state.holds[command.id] = HoldState(
        id=command.id,
        debit_account_id=debit,
        credit_account_id=credit,
        currency=command.currency,
        amount_minor=command.amount_minor,
        expires_at=command.expires_at,
        reference=command.reference,
    )
    return Outcome(command, "held", balances=tuple(copy(b) for b in balances.values()))


def _open_hold(state: State, hold_id: UUID) -> HoldState:
    hold = state.holds.get(hold_id)
    if hold is None:
        raise errors.HoldNotFound("There is no such hold.", hold=encode_id("ho", hold_id))
    if hold.status == HoldStatus.CAPTURED:
        raise errors.HoldAlreadyCaptured("The hold was captured.", hold=encode_id("ho", hold_id))
    if hold.status == HoldStatus.VOIDED:
        raise errors.HoldAlreadyVoided("The hold was voided.", hold=encode_id("ho", hold_id))
    if hold.status == HoldStatus.EXPIRED:
        raise errors.HoldExpired("The hold has expired.", hold=encode_id("ho", hold_id))
    return hold


def _is_expired(state: State, hold: HoldState) -> bool:
    """Expiry is decided by the clock at the moment of the act, whether or not a sweeper ran."""
    return hold.expires_at is not None and state.now is not None and hold.expires_at <= state.now


def _release(state: State, hold: HoldState) -> tuple[BalanceState, BalanceState]:
    debit = state.balances[hold.debit_account_id]
    credit = state.balances[hold.credit_account_id]
    debit.pending_debits -= hold.amount_minor
    credit.pending_credits -= hold.amount_minor
    return debit, credit


def _capture_hold(state: State, command: CaptureHold) -> Outcome:
    known = state.known.get(command.reference) if command.reference else None
    hold = state.holds.get(command.hold_id)
    if known is not None and hold is not None:
        amount = hold.amount_minor if command.amount_minor is None else command.amount_minor
        return _replay(command, known, _hold_legs(hold, amount))
    hold = _open_hold(state, command.hold_id)
    if _is_expired(state, hold):
        raise errors.HoldExpired("The hold has expired.", hold=encode_id("ho", hold.id))
    amount = hold.amount_minor if command.amount_minor is None else command.amount_minor
    if amount > hold.amount_minor:
        raise errors.CaptureExceedsHold(
            "More is captured than the hold reserves.",
            hold=encode_id("ho", hold.id),
            amount=hold.amount_minor,
        )
    debit, credit = _release(state, hold)
    lines = (_post(debit, amount), _post(credit, -amount)) if amount else ()
    hold.status, hold.captured_minor = HoldStatus.CAPTURED, amount
    if command.reference and amount:
        state.known[command.reference] = KnownEntry(command.entry_id, _hold_legs(hold, amount))
    entry_id = command.entry_id if amount else None
    after = (copy(debit), copy(credit))
    return Outcome(command, "posted", entry_id=entry_id, lines=lines, balances=after)


def _hold_legs(hold: HoldState, amount: int) -> tuple[tuple[UUID, int, str], ...]:
    return (
        (hold.debit_account_id, amount, hold.currency),
        (hold.credit_account_id, -amount, hold.currency),
    )


def _void_hold(state: State, command: VoidHold) -> Outcome:
    hold = _open_hold(state, command.hold_id)
    debit, credit = _release(state, hold)
    hold.status = HoldStatus.VOIDED
    return Outcome(command, "voided", balances=(copy(debit), copy(credit)))


_APPLY: Mapping[type, Callable[[State, object], Outcome]] = {
    PostEntry: _post_entry,  # type: ignore[dict-item]  # each is called with its own type only
    PlaceHold: _place_hold,  # type: ignore[dict-item]
    CaptureHold: _capture_hold,  # type: ignore[dict-item]
    VoidHold: _void_hold,  # type: ignore[dict-item]
}
