"""The pure rule of balance monitors: edges, and nothing but edges."""

import itertools
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ledger.rules import BalanceState, Crossing, MonitorState, crossings

ACCOUNT, OTHER, MONITOR = UUID(int=1), UUID(int=2), UUID(int=3)


def monitor(direction: str = "below", *, beyond: bool = False, measure: str = "posted"):
    return MonitorState(MONITOR, ACCOUNT, measure, direction, 100, beyond)


def standing(*amounts: int, account: UUID = ACCOUNT) -> list[BalanceState]:
    return [
        BalanceState(account, "EUR", credit_normal=True, posted_credits=max(amount, 0),
                     posted_debits=max(-amount, 0))
        for amount in amounts
    ]  # fmt: skip


def told(watching: MonitorState, *amounts: int) -> list[int]:
    found, _ = crossings([watching], standing(*amounts))
    return [crossing.balance_minor for crossing in found]


class TestCrossings:
    def test_of_the_design_pages_example_are_two(self):
        assert told(monitor(), 120, 90, 80, 130, 90) == [90, 90]

    @pytest.mark.parametrize(
        ("direction", "amounts", "expected"),
        [
            ("below", [100, 99], [99]),
            ("below", [100, 100], []),
            ("above", [100, 101, 100, 102], [101, 102]),
            ("above", [90, 80], []),
            ("below", [-5], [-5]),
        ],
    )
    def test_leave_out_what_equals_the_threshold(self, direction, amounts, expected):
        assert told(monitor(direction), *amounts) == expected

    def test_of_what_was_beyond_already_wait_until_it_was_back(self):
        assert told(monitor(beyond=True), 90, 80, 100, 99) == [99]

    def test_are_of_the_monitors_own_account(self):
        found, beyond = crossings([monitor()], standing(50, account=OTHER))

        assert (found, beyond) == ([], {MONITOR: False})

    def test_watch_available_where_a_hold_moves_it_and_posted_where_it_does_not(self):
        held = BalanceState(ACCOUNT, "EUR", credit_normal=True, posted_credits=120,
                            pending_debits=30)  # fmt: skip

        assert crossings([monitor(measure="available")], [held])[0] == [Crossing(MONITOR, 90, 0)]
        assert crossings([monitor(measure="posted")], [held])[0] == []

    @given(st.lists(st.integers(-300, 300)), st.sampled_from(["below", "above"]), st.booleans())
    def test_are_as_many_as_steps_from_within_to_beyond(self, amounts, direction, beyond):
        sides = [beyond] + [a < 100 if direction == "below" else a > 100 for a in amounts]
        steps = sum(after and not before for before, after in itertools.pairwise(sides))

        found, after = crossings([monitor(direction, beyond=beyond)], standing(*amounts))

        assert len(found) == steps
        assert after == {MONITOR: sides[-1]}

    @given(st.lists(st.integers(-300, 300), max_size=20), st.integers(0, 20))
    def test_do_not_depend_on_how_commands_were_batched(self, amounts, cut):
        first, beyond = crossings([monitor()], standing(*amounts[:cut]))
        second, _ = crossings([monitor(beyond=beyond[MONITOR])], standing(*amounts[cut:]))

        at_once = crossings([monitor()], standing(*amounts))[0]
        assert [(c.monitor_id, c.balance_minor) for c in first + second] == [
            (c.monitor_id, c.balance_minor) for c in at_once
        ]
        assert [c.place for c in at_once] == [
            *(c.place for c in first), *(c.place + len(amounts[:cut]) for c in second)
        ]  # fmt: skip
