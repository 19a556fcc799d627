"""The pure core and the plain books beside it, step by step."""

from uuid import UUID

from apps.ledger import rules
from apps.ledger.rules import CREDIT_NORMAL
from tests.ledger import wishes
from tests.ledger.naive import Books, Result
from tests.ledger.standing import Account, differences
from tests.ledger.wishes import START, Wish

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

    def take(self, wanted: list[Wish], *, together: bool = False) -> None:
        commands = []
        for wish in wanted:
            self.made += 1
            commands.append(
                wishes.command_of(
                    wish, ids=self.ids, holds=list(reversed(self.books.holds)), now=self.now,
                    new=UUID(int=0x0193 << 112 | 7 << 76 | 1 << 63 | self.made),
                )
            )  # fmt: skip
        self.run(commands, together=together)

    def run(self, commands: list, *, together: bool = False) -> list[Result]:
        self.steps += 1
        state = self.books.state(commands, self.now)
        before = self.books.state(commands, self.now)
        if together:
            after, outcomes = rules.apply_together(state, commands)
            results = self.books.apply_together(commands, self.now)
        else:
            after, outcomes = rules.apply(state, commands)
            results = self.books.apply(commands, self.now)

        assert [Result.of(outcome) for outcome in outcomes] == results, commands
        assert state == before, "The core changed what it was given."
        assert differences(self.books, after.balances) == []
        # What writes them compares them pair by pair.
        assert list(after.balances) == list(before.balances)
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
        self.steps += 1
        self.now += delta

    def close(self, month) -> None:
        self.steps += 1
        if month not in self.books.closed:
            self.books.closed.append(month)

    def set_status(self, place: int, status: str) -> None:
        self.steps += 1
        self.books.accounts[self.ids[place]].status = status

    def set_floor(self, place: int, floor: int | None) -> None:
        """As the operation does: not above what is available from now on."""
        self.steps += 1
        account = self.books.accounts[self.ids[place]]
        self.books.now = self.now
        if floor is None or self.books.keeps(account, floor):
            account.floor = floor
