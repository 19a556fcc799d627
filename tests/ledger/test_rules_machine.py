"""The pure core beside the same rules said plainly: a machine, and a hundred thousand steps."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.ledger import wishes
from tests.ledger.beside import Core
from tests.ledger.wishes import Chooser, drawn


class CoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.core = Core()

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


TestCoreMachine = CoreMachine.TestCase
TestCoreMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def act(core: Core, rng: random.Random) -> None:
    choose = Chooser.of(rng)
    dice = rng.random()
    if dice < 0.60:
        core.take([wishes.anything(choose)])
    elif dice < 0.80:
        core.take(wishes.several(choose))
    elif dice < 0.86:
        core.take(wishes.together(choose), together=True)
    elif dice < 0.96:
        core.tick(rng.choice(wishes.TICKS))
    elif dice < 0.98:
        core.set_floor(rng.randrange(6), rng.choice([None, 0, -100, 50]))
    elif dice < 0.99:
        core.set_status(rng.randrange(6), rng.choice(["open", "open", "frozen"]))
    elif dice < 0.993:
        core.close(rng.choice([wishes.SEPTEMBER, wishes.OCTOBER]))


def run_seeded(seed: int, steps: int) -> int:
    """Run short histories until so many commands were taken; each begins anew from its own seed."""
    taken = 0
    while taken < steps:
        seed += 1
        rng, core = random.Random(seed), Core()
        try:
            while core.steps < 60:
                act(core, rng)
            core.check()
        except BaseException as fault:
            fault.add_note(f"Seed {seed}, step {core.steps}.")
            raise
        taken += core.steps
    return taken


class TestSeededRuns:
    @pytest.mark.parametrize(
        ("part", "steps"),
        [(0, 10_000), *(pytest.param(part, 30_000, marks=pytest.mark.soak) for part in (1, 2, 3))],
    )
    def test_many_thousand_steps_come_out_as_plainly_said(self, part, steps):
        assert run_seeded(part * 1_000_000, steps) >= steps
