"""
Books that keep nothing but what happened.

Every balance is summed from the first posting on, at every instant that anybody asks about, and
every hold is looked at each time.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Self
from uuid import UUID

from apps.ledger import rules
from apps.ledger.operations import _state
from apps.ledger.rules import (
    BalanceState,
    Command,
    HoldState,
    KnownEntry,
    LaterBalances,
    State,
)

SKEW = timedelta(seconds=5)


@dataclass
class Account:
    id: UUID
    currency: str
    credit_normal: bool
    floor: int | None
    status: str = "open"

    def side(self, amount: int) -> int:
        return -amount if self.credit_normal else amount


@dataclass
class Standing:
    accounts: dict[UUID, Account]
    postings: dict[UUID, list[tuple[datetime, int]]]
    holds: dict[UUID, HoldState] = field(default_factory=dict)
    entries: dict[str, tuple[tuple[UUID, int, str], ...]] = field(default_factory=dict)
    closed: list[tuple[datetime, datetime, str]] = field(default_factory=list)
    now: datetime | None = None

    @classmethod
    def of(cls, accounts: Iterable[Account]) -> Self:
        known = {account.id: account for account in accounts}
        return cls(known, {id_: [] for id_ in known})

    def copy(self) -> Self:
        return type(self)(
            {id_: copy(account) for id_, account in self.accounts.items()},
            {id_: list(postings) for id_, postings in self.postings.items()},
            {id_: copy(hold) for id_, hold in self.holds.items()},
            dict(self.entries),
            list(self.closed),
            self.now,
        )

    def posted(self, account: Account, at: datetime | None = None) -> int:
        """On the normal side, up to and including the instant."""
        told = self.postings[account.id]
        return account.side(sum(amount for when, amount in told if at is None or when <= at))

    def pending_out(self, account: Account) -> int:
        return sum(
            hold.amount_minor - hold.captured_minor
            for hold in self.holds.values()
            if hold.status == "open"
            and account.id == (hold.debit_account_id if account.credit_normal
                               else hold.credit_account_id)
        )  # fmt: skip

    def available(self, account: Account) -> int:
        return self.posted(account) - self.pending_out(account)

    def lowest(self, account: Account, at: datetime, *, pending: int) -> int:
        """The lowest balance from the instant on; what is reserved is taken off from now on."""
        instants = {at, *(when for when, _ in self.postings[account.id] if when > at)}
        if self.now >= at:
            instants.add(self.now)
        return min(
            self.posted(account, instant) - (pending if instant >= self.now else 0)
            for instant in instants
        )

    def latest(self, account: Account) -> datetime | None:
        return max((when for when, _ in self.postings[account.id]), default=None)

    def today(self, account: Account) -> datetime:
        """Now, or what another server's clock that is a little ahead has posted by then."""
        latest = self.latest(account)
        return max(self.now, latest) if latest and latest <= self.now + SKEW else self.now

    def keeps(self, account: Account, floor: int) -> bool:
        """Whether it stands at the floor or above it from now on."""
        pending = self.pending_out(account)
        return self.lowest(account, self.today(account), pending=pending) >= floor

    def is_empty(self, account: Account) -> bool:
        balance, latest = self.balance(account.id), self.latest(account)
        reserved = balance.pending_debits or balance.pending_credits
        is_later = latest is not None and latest > self.today(account)
        return not (balance.posted or reserved or is_later)

    @staticmethod
    def is_named(hold: HoldState) -> bool:
        """Payouts hold money again under the name of a hold that ended; clients never do."""
        return hold.status == "open" or not str(hold.reference).startswith("payout:")

    # --- The same for the engine ----------------------------------------------------------------

    def state(self, commands: Sequence[Command], now: datetime) -> State:
        """What the engine decides over, as its shell would read it of these books."""
        accounts, held = rules.touched(commands)
        holds = {id_: copy(self.holds[id_]) for id_ in held if id_ in self.holds}
        for hold in holds.values():
            accounts |= {hold.debit_account_id, hold.credit_account_id}
        balances = {id_: self.balance(id_) for id_ in accounts if id_ in self.accounts}
        wanted = {command.reference for command in commands if getattr(command, "reference", None)}
        standing = {
            hold.reference: copy(hold)
            for hold in self.holds.values()
            if hold.reference in wanted and self.is_named(hold)
        }
        instants = _state._back_dated(commands, balances, holds, now=now)
        return State(
            balances,
            holds | {hold.id: hold for hold in standing.values()},
            {text: KnownEntry(UUID(int=0), self.entries[text])
             for text in wanted & self.entries.keys()},
            {reference: hold.id for reference, hold in standing.items()},
            now=now,
            later={id_: self.later(id_, ats) for id_, ats in instants.items()},
            closed=list(self.closed),
        )  # fmt: skip

    def balance(self, id_: UUID) -> BalanceState:
        account, amounts = self.accounts[id_], [amount for _, amount in self.postings[id_]]
        open_ = [hold for hold in self.holds.values() if hold.status == "open"]
        return BalanceState(
            id=id_,
            currency=account.currency,
            credit_normal=account.credit_normal,
            status=account.status,
            min_available_minor=account.floor,
            posted_debits=sum(amount for amount in amounts if amount > 0),
            posted_credits=-sum(amount for amount in amounts if amount < 0),
            pending_debits=sum(h.remaining_minor for h in open_ if h.debit_account_id == id_),
            pending_credits=sum(h.remaining_minor for h in open_ if h.credit_account_id == id_),
            version=len(amounts),
            latest_effective_at=self.latest(account),
        )

    def later(self, id_: UUID, instants: Sequence[datetime]) -> LaterBalances:
        return later_balances(
            [(at, self.accounts[id_].side(amount)) for at, amount in self.postings[id_]], instants
        )


def later_balances(
    history: Sequence[tuple[datetime, int]], instants: Sequence[datetime]
) -> LaterBalances:
    """Sum the balance anew at each instant; return the lowest from each one asked to the next."""
    found = LaterBalances([], [], [])
    for since, until in pairwise([*instants, None]):
        within = {since} | {at for at, _ in history if at > since and (until is None or at < until)}
        low, low_at = min(
            (sum(amount for when, amount in history if when <= at), at) for at in within
        )
        found.instants.append(since)
        found.lows.append(low)
        found.lows_at.append(low_at)
    return found


def differences(books: Standing, balances: Mapping[UUID, BalanceState]) -> list[str]:
    """Say where the engine's balances are not what the books sum up to."""
    return [
        f"{id_}: {balance} is not {books.balance(id_)}"
        for id_, balance in balances.items()
        if balance != books.balance(id_)
    ]
