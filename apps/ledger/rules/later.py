"""The balances of an account from the instants of a batch on: what a back-dated one may break."""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from operator import add


@dataclass(slots=True)
class LaterBalances:
    """
    The lowest posted balance of one account between instants of a batch, on its normal side.

    `lows[i]` is the lowest from `instants[i]` on until before the next one (the last: for ever),
    and `lows_at[i]` the time from which on it stood.
    """

    instants: list[datetime]
    _lows: list[int]
    lows_at: list[datetime]
    # By the place from which on it counts: each is summed up once, as the lows are next read. An
    # act of thousands changes as many instants, and would walk all later ones for each of them.
    _changes: dict[int, int] = field(default_factory=dict, init=False)

    @property
    def lows(self) -> list[int]:
        if self._changes:
            changes, first = self._changes, min(self._changes)
            sums = accumulate(changes.get(place, 0) for place in range(first, len(self._lows)))
            self._lows[first:] = map(add, self._lows[first:], sums)
            self._changes = {}
        return self._lows

    def change(self, at: datetime, amount_minor: int) -> None:
        """Raise every balance from `at` on by this amount, on the account's normal side."""
        place = bisect_left(self.instants, at)
        if place < len(self.instants):
            self._changes[place] = self._changes.get(place, 0) + amount_minor

    def copy(self) -> "LaterBalances":
        return LaterBalances(self.instants, list(self.lows), list(self.lows_at))
