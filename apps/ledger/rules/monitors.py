"""Balance monitors: telling once as a balance crosses a threshold, not while it stays beyond."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from apps.ledger.rules.values import BalanceAfter, BalanceState, MonitorDirection, MonitorMeasure


@dataclass(frozen=True, slots=True)
class MonitorState:
    """
    What a monitor watches, and on which side of its threshold the balance stood last.

    The threshold is in minor units on the account's normal side.
    """

    id: UUID
    account_id: UUID
    measure: str
    direction: str
    threshold_minor: int
    is_beyond: bool


@dataclass(frozen=True, slots=True)
class Crossing:
    """
    A balance went beyond a monitor's threshold; `balance_minor` is what it was then.

    `place` is where that balance stands among those that were looked at.
    """

    monitor_id: UUID
    balance_minor: int
    place: int


def measured(balance: BalanceState | BalanceAfter, measure: str) -> int:
    """Return the balance that a monitor watches, in minor units on the account's normal side."""
    return balance.available if measure == MonitorMeasure.AVAILABLE else balance.posted


def is_beyond(balance_minor: int, *, direction: str, threshold_minor: int) -> bool:
    """Say whether a balance is beyond a threshold; equal to it is not."""
    if direction == MonitorDirection.BELOW:
        return balance_minor < threshold_minor
    return balance_minor > threshold_minor


def crossings(
    monitors: Sequence[MonitorState], balances: Iterable[BalanceState | BalanceAfter]
) -> tuple[list[Crossing], dict[UUID, bool]]:
    """
    Return each crossing in the order it happened, and which monitors are beyond afterwards.

    `balances` are as they were right after each command, in order. Edge-triggered: 120, 90, 80,
    130, 90 against 100 `below` is two crossings. Coming back tells nothing, and rearms.
    """
    beyond = {monitor.id: monitor.is_beyond for monitor in monitors}
    watching: dict[UUID, list[MonitorState]] = {}
    for monitor in monitors:
        watching.setdefault(monitor.account_id, []).append(monitor)
    found = []
    for place, balance in enumerate(balances):
        for monitor in watching.get(balance.id, ()):
            value = measured(balance, monitor.measure)
            now_beyond = is_beyond(
                value, direction=monitor.direction, threshold_minor=monitor.threshold_minor
            )
            if now_beyond and not beyond[monitor.id]:
                found.append(Crossing(monitor.id, value, place))
            beyond[monitor.id] = now_beyond
    return found, beyond
