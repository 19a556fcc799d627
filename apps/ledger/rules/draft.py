"""What a batch changes: copies of its own, and the way back from a chain that is refused."""

from collections.abc import Callable, Sequence
from copy import copy
from uuid import UUID

from apps.ledger.rules.later import LaterBalances
from apps.ledger.rules.values import (
    BalanceState,
    CaptureHold,
    Command,
    PlaceHold,
    PostEntry,
    State,
    Transfer,
)


def touched(commands: Sequence[Command]) -> tuple[set[UUID], set[UUID]]:
    """Return the accounts and the existing holds that commands name: what is to be locked."""
    accounts: set[UUID] = set()
    holds: set[UUID] = set()
    for command in commands:
        match command:
            case Transfer() | PlaceHold():
                accounts.add(command.debit_account_id)
                accounts.add(command.credit_account_id)
            case PostEntry():
                accounts.update(leg.account_id for leg in command.legs)
            case _:
                holds.add(command.hold_id)
    return accounts, holds


class Draft:
    """A state of which an account, a hold or a history is copied as it is first changed."""

    __slots__ = ("_our_later", "balances", "holds", "known", "later", "now", "state")

    def __init__(self, state: State) -> None:
        self.state = State(
            balances=dict(state.balances),
            holds={id_: copy(hold) for id_, hold in state.holds.items()},
            known=dict(state.known),
            known_holds=dict(state.known_holds),
            now=state.now,
            reach_internal=state.reach_internal,
            later=dict(state.later),
            closed=state.closed,
        )
        self.balances = self.state.balances
        self.holds = self.state.holds
        self.known = self.state.known
        self.later = self.state.later
        self.now = state.now
        self._our_later: set[UUID] = set()

    def own(self, balance: BalanceState) -> BalanceState:
        """Return the account's copy that may be changed."""
        if balance.owner is self:
            return balance
        mine = self.balances[balance.id] = balance.copy(owner=self)
        return mine

    def own_later(self, account_id: UUID) -> LaterBalances | None:
        """Return the account's copy that may be changed, if it has later balances."""
        later = self.later.get(account_id)
        if later is not None and account_id not in self._our_later:
            self._our_later.add(account_id)
            later = self.later[account_id] = later.copy()
        return later


def snapshot(draft: Draft, chain: Sequence[Command]) -> Callable[[], None]:
    """Return what puts the state back to before the chain; only what it names is copied."""
    accounts, held = touched(chain)
    holds = {id_: copy(draft.holds[id_]) for id_ in held if id_ in draft.holds}
    for hold in holds.values():
        accounts |= {hold.debit_account_id, hold.credit_account_id}
    balances = {id_: draft.balances[id_].copy() for id_ in accounts if id_ in draft.balances}
    later = {id_: draft.later[id_].copy() for id_ in accounts if id_ in draft.later}
    placed = {command.id for command in chain if isinstance(command, PlaceHold)}
    references = {
        command.reference
        for command in chain
        if isinstance(command, Transfer | PostEntry | CaptureHold) and command.reference
    } - draft.known.keys()
    held_references = {
        command.reference: draft.state.known_holds.get(command.reference)
        for command in chain
        if isinstance(command, PlaceHold) and command.reference
    }

    def undo() -> None:
        draft.balances.update(balances)
        draft.holds.update(holds)
        draft.later.update(later)
        for id_ in placed:
            draft.holds.pop(id_, None)
        for reference in references:
            draft.known.pop(reference, None)
        for reference, hold_id in held_references.items():
            draft.state.known_holds.pop(reference, None)
            if hold_id is not None:
                draft.state.known_holds[reference] = hold_id

    return undo
