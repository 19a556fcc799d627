"""The posting engine's core: commands applied in order to copies of the balances."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from apps.core.errors import Refusal
from apps.core.ids import encode_id
from apps.ledger import errors
from apps.ledger.rules import checks, holds, posting
from apps.ledger.rules.draft import Draft, snapshot, touched
from apps.ledger.rules.values import (
    CaptureHold,
    Command,
    ExpireHold,
    Outcome,
    PlaceHold,
    PostEntry,
    State,
    Transfer,
    VoidHold,
)

_NAMES: Final = "journal_entry"


def apply(state: State, commands: Sequence[Command]) -> tuple[State, list[Outcome]]:
    """
    Apply commands in order; return the state after, and one outcome per command.

    A refused command changes nothing and the next still runs. A linked chain succeeds or fails as
    one: the guilty command carries its own refusal, the rest `linked_command_failed`. One that the
    batch ends within is refused: what it was to be linked to is not here.
    """
    draft = Draft(state)
    outcomes: list[Outcome] = []
    tied: list[Command] = []
    for command in commands:
        if command.linked:
            tied.append(command)
        elif tied:
            outcomes += _apply_chain(draft, [*tied, command])
            tied = []
        else:
            outcomes.append(_apply_one(draft, command))
    if tied:
        outcomes += _apply_chain(draft, tied)
    return draft.state, outcomes


def apply_together(state: State, entries: Sequence[PostEntry]) -> tuple[State, list[Outcome]]:
    """
    Apply entries as one act, all or none: its funds are checked once, by what it all comes to.

    No account lacks what another entry of the act brings it, in whatever order they are named.
    An account that is paid out on the whole is checked against today's balance, and against every
    later one at which the act as a whole has taken something away. Entries without a business time
    of their own get one that they share; none is forced. What refuses one entry alone is its own
    refusal, and `linked_command_failed` the others'; what refuses the whole is that of each.
    """
    draft = Draft(state)
    named = [state.balances[id_] for id_ in touched(entries)[0] if id_ in state.balances]
    seen = posting.seen_last(draft, named)
    outcomes: list[Outcome] = []
    for entry in entries:
        try:
            outcomes.append(posting.post_entry(draft, entry, among=seen))
        except Refusal as refusal:
            return state, [
                _refused(other, refusal if other is entry else _linked_failed())
                for other in entries
            ]
    try:
        for account_id in dict.fromkeys(line[0] for o in outcomes for line in o.lines):
            _check_net(state, draft, account_id)
    except Refusal as refusal:
        return state, [_refused(entry, refusal) for entry in entries]
    return draft.state, outcomes


def _check_net(before: State, draft: Draft, account_id: UUID) -> None:
    """Refuse what an act as a whole has taken from an account, if that breaks its floor."""
    balance = before.balances[account_id]
    checks.outflow(balance, balance.posted - draft.balances[account_id].posted)
    later = before.later.get(account_id)
    if later is not None:
        checks.net_history(later, draft.later[account_id], balance, now=draft.now)


def _apply_chain(draft: Draft, chain: Sequence[Command]) -> list[Outcome]:
    undo = snapshot(draft, chain)
    outcomes: list[Outcome] = []
    for command in chain:
        outcome = _apply_one(draft, command)
        if command is chain[-1] and _is_open([*outcomes, outcome]):
            outcome = _refused(command, errors.LinkedChainOpen("No command follows this one."))
        if outcome.refusal is not None:
            undo()
            forget_unmade([*outcomes, outcome])
            return [
                outcome if other is command else _refused(other, _linked_failed())
                for other in chain
            ]
        outcomes.append(outcome)
    return outcomes


def _is_open(chain: Sequence[Outcome]) -> bool:
    """Say whether what would be posted is linked to a command that is not there."""
    last = chain[-1]
    # What all stands is told as it stands, whoever cut the list.
    is_new = any(outcome.status != "replayed" for outcome in chain)
    return last.command.linked and last.refusal is None and is_new


def forget_unmade(outcomes: Sequence[Outcome]) -> None:
    """
    Take out of refusals the entries that these commands posted, where none of it will stand.

    Such a refusal is of a reference that was used twice; its place says where.
    """
    named = [o.refusal for o in outcomes if o.refusal and _NAMES in o.refusal.details]
    if named:
        posted = {encode_id("je", o.entry_id) for o in outcomes if o.lines and o.entry_id}
        for refusal in named:
            if refusal.details[_NAMES] in posted:
                del refusal.details[_NAMES]


def _linked_failed() -> Refusal:
    return errors.LinkedCommandFailed("A command linked to this one was refused.")


def _refused(command: Command, refusal: Refusal) -> Outcome:
    return Outcome(command, "refused", refusal=refusal)


def _apply_one(draft: Draft, command: Command) -> Outcome:
    try:
        return _APPLY[type(command)](draft, command)
    except Refusal as refusal:
        return _refused(command, refusal)


_APPLY: Final[Mapping[type, Callable[[Draft, Any], Outcome]]] = {
    Transfer: posting.transfer,
    PostEntry: posting.post_entry,
    PlaceHold: holds.place_hold,
    CaptureHold: holds.capture_hold,
    VoidHold: holds.void_hold,
    ExpireHold: holds.expire_hold,
}
