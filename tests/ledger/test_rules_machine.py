"""The pure core beside the same rules said plainly: a machine, and a hundred thousand steps."""

import random
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from apps.ledger import rules
from apps.ledger.rules import CREDIT_NORMAL
from tests.ledger import wishes
from tests.ledger.naive import Account, Books, Result, differences
from tests.ledger.wishes import START, Chooser, Wish, drawn

IDS = [UUID(int=0x0192 << 112 | 7 << 76 | 1 << 63 | place) for place in range(len(wishes.SPECS))]


def plain_accounts(ids=IDS) -> list[Account]:
    return [
        Account(id_, code[-3:], type_ in CREDIT_NORMAL, floor)
        for id_, (code, type_, floor) in zip(ids, wishes.SPECS, strict=True)
    ]


class Core:
    """The core and the books beside it: each step is taken by both, and must come out the same."""

    def __init__(self, ids: list[UUID] = IDS) -> None:
        self.ids = ids
        self.books = Books.of(plain_accounts(ids))
        self.now = self.books.now = START
        self.steps = 0
        self.made = 0

    def take(self, wanted: list[Wish]) -> None:
        commands = []
        for wish in wanted:
            self.made += 1
            commands.append(
                wishes.command_of(
                    wish, ids=self.ids, holds=list(reversed(self.books.holds)), now=self.now,
                    new=UUID(int=0x0193 << 112 | 7 << 76 | 1 << 63 | self.made),
                )
            )  # fmt: skip
        self.run(commands)

    def run(self, commands: list) -> list[Result]:
        self.steps += len(commands)
        state = self.books.state(commands, self.now)
        before = self.books.state(commands, self.now)
        after, outcomes = rules.apply(state, commands)
        results = self.books.apply(commands, self.now)

        assert [Result.of(outcome) for outcome in outcomes] == results, commands
        assert state == before, "The core changed what it was given."
        assert differences(self.books, after.balances) == []
        for id_, hold in after.holds.items():
            ours = self.books.holds[id_]
            assert (hold.status, hold.captured_minor) == (ours.status, ours.captured_minor)
        self.check_floors(state, after, commands)
        return results

    def check_floors(self, before, after, commands) -> None:
        """No command takes an account below its floor that was not below it before."""
        for id_, balance in after.balances.items():
            floor = balance.min_available_minor
            if floor is not None:
                assert balance.available >= min(floor, before.balances[id_].available), commands

    def check(self) -> None:
        """Money is conserved per currency, and versions have no gap."""
        for currency in ("EUR", "USD"):
            moved = [
                amount
                for id_, told in self.books.postings.items()
                if self.books.accounts[id_].currency == currency
                for _, amount in told
            ]
            assert sum(moved) == 0

    def tick(self, delta) -> None:
        self.now += delta

    def close(self, month) -> None:
        if month not in self.books.closed:
            self.books.closed.append(month)

    def set_status(self, place: int, status: str) -> None:
        self.books.accounts[self.ids[place]].status = status

    def set_floor(self, place: int, floor: int | None) -> None:
        """As the operation does: not above what is available now."""
        account = self.books.accounts[self.ids[place]]
        if floor is None or self.books.available(account) >= floor:
            account.floor = floor


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
    elif dice < 0.85:
        core.take(wishes.several(choose))
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
    @pytest.mark.parametrize("part", range(4))
    def test_a_hundred_thousand_steps_come_out_as_plainly_said(self, part):
        assert run_seeded(part * 1_000_000, 25_000) >= 25_000
