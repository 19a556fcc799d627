"""The pure core beside the same rules said plainly: a machine, and a hundred thousand steps."""

from math import ceil
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.ledger import wishes
from tests.ledger.beside import Core
from tests.ledger.wishes import drawn

# Of one run: what is found is made shorter from no more than these.
STEPS = 40


class CoreMachine(RuleBasedStateMachine):
    # By all runs of this process, those that ended early too.
    taken: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.core = Core()

    def teardown(self) -> None:
        CoreMachine.taken += self.core.steps

    @rule(wish=drawn(wishes.transfer))
    def transfer(self, wish):
        self.core.take([wish])

    @rule(wish=drawn(wishes.entry))
    def entry(self, wish):
        self.core.take([wish])

    @rule(wish=drawn(wishes.place))
    def place_hold(self, wish):
        self.core.take([wish])

    @rule(wish=drawn(wishes.capture))
    def capture_hold(self, wish):
        self.core.take([wish])

    @rule(wish=drawn(wishes.end))
    def end_hold(self, wish):
        self.core.take([wish])

    @rule(batch=drawn(wishes.several))
    def batch(self, batch):
        self.core.take(batch)

    @rule(act=drawn(wishes.together))
    def together(self, act):
        self.core.take(act, together=True)

    @rule(delta=st.sampled_from(wishes.TICKS))
    def clock(self, delta):
        self.core.tick(delta)

    @rule(month=st.sampled_from([wishes.SEPTEMBER, wishes.OCTOBER]))
    def close_month(self, month):
        self.core.close(month)

    @rule(place=st.sampled_from(range(6)), status=st.sampled_from(["open", "open", "frozen"]))
    def set_status(self, place, status):
        self.core.set_status(place, status)

    @rule(place=st.sampled_from(range(6)), floor=st.sampled_from([None, 0, -100, 50]))
    def set_floor(self, place, floor):
        self.core.set_floor(place, floor)

    @invariant()
    def money_is_conserved(self):
        self.core.check()


def drive(steps: int) -> int:
    """Run machines until they took so many steps in all, and return how many they took."""
    begun = CoreMachine.taken
    while (left := steps - (CoreMachine.taken - begun)) > 0:
        run_state_machine_as_test(
            CoreMachine,
            settings=settings(
                max_examples=ceil(left / STEPS),
                stateful_step_count=STEPS,
                deadline=None,
                # On CI each part, and what it has still to do, would be the same runs again.
                derandomize=False,
            ),
        )
    return CoreMachine.taken - begun


class TestCore:
    def test_decides_as_is_plainly_said(self):
        assert drive(4_000) >= 4_000

    @pytest.mark.soak
    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("part", range(4))
    def test_does_so_for_a_hundred_thousand_steps(self, part):
        assert drive(25_000) >= 25_000
