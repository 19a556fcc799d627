"""A journal checked whole before any of it is imported: order, sums, versions, balances, hashes."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from apps.core.errors import Refusal
from apps.ledger.formats.journal import (
    FORMAT,
    FORMATS,
    ORDER,
    AccountLine,
    EntryLine,
    FxLine,
    HeaderLine,
    HoldLine,
    Line,
    MetadataLine,
    MonitorLine,
    PeriodBalanceLine,
    PeriodLine,
    PostingLine,
)
from apps.ledger.rules import (
    CLOCK_STEP_MAX,
    CREDIT_NORMAL,
    FX_KIND,
    TRANSFER_KIND,
    AccountStatus,
    AccountType,
    MonitorDirection,
    MonitorMeasure,
    chain,
    quote,
)

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class WrongLine(ValueError):
    """What is wrong with a line, for the person who has the file."""


@dataclass(slots=True)
class _Account:
    line: AccountLine
    credit_normal: bool
    version: int = 0
    balance: int = 0
    pending_out: int = 0
    is_held: bool = False
    recorded_at: datetime = _NEVER


@dataclass(slots=True)
class JournalCheck:
    """
    What the lines so far come to. It keeps a row per account, and positions that others name.

    It is `now` by the clock that what is posted after it is recorded by.

    `hash_at` is the hash of the link at `standing`, so that who has so many entries can compare.
    """

    now: datetime
    standing: int = 0
    hash_at: bytes = b""
    header: HeaderLine | None = None
    entries: int = 0
    previous: bytes = chain.GENESIS
    reversed: set[int] = field(default_factory=set)
    later: dict[int, int] = field(default_factory=dict)
    exchanged: set[int] = field(default_factory=set)
    lines: Counter[type[Line]] = field(default_factory=Counter)
    _stage: int = 0
    _references: set[tuple[type[Line], str]] = field(default_factory=set)
    _changed: dict[int, dict[str, int]] = field(default_factory=dict)
    _last_month: date = date.min
    _reopened: dict[date, int] = field(default_factory=dict)
    _last_stored: tuple[date, int] = (date.min, 0)
    _stored: set[str] = field(default_factory=set)
    _residues: Counter[tuple[date, int, str, bool]] = field(default_factory=Counter)
    _accounts: dict[str, _Account] = field(default_factory=dict)
    _types: dict[str, str] = field(default_factory=dict)

    @property
    def accounts(self) -> list[AccountLine]:
        """The accounts of the file."""
        return [account.line for account in self._accounts.values()]

    def version(self, code: str) -> int:
        """Return how many postings the lines so far make on an account."""
        return self._accounts[code].version

    def read(self, line: Line) -> None:
        """
        Check the next line.

        :raises WrongLine: if it is not what may follow
        """
        self._follow(line)
        match line:
            case HeaderLine():
                self._header(line)
            case AccountLine():
                self._account(line)
            case EntryLine():
                self._entry(line)
            case MetadataLine():
                self._metadata(line)
            case _:
                self._beside(line)

    def close(self) -> None:
        """
        Check that the file is whole, and that balances keep the floors they end with.

        :raises WrongLine: if it is not
        """
        header = self.header
        if header is None:
            raise WrongLine("it is empty")
        for kind, promised in _promised(header).items():
            if self.lines[kind] != promised:
                name = kind.__struct_config__.tag
                raise WrongLine(
                    f"it has {self.lines[kind]} lines {name!r}, and its header promises {promised}"
                )
        if self.previous.hex() != header.hash:
            raise WrongLine(f"its last hash is not {header.hash}, which the header promises")
        if any(self._residues.values()):
            raise WrongLine("a trial balance that was stored does not balance")
        if lonely := self._changed.keys() - self.exchanged:
            raise WrongLine(f"position {min(lonely)} is of an FX transfer that it does not have")
        self._check_floors()

    def _check_floors(self) -> None:
        for code, account in self._accounts.items():
            floor = account.line.min_available
            available = account.balance - account.pending_out
            if floor is not None and available < floor:
                raise WrongLine(f"{code} ends at {available} available, below its floor {floor}")
            if account.line.status == AccountStatus.CLOSED and (account.balance or account.is_held):
                raise WrongLine(f"{code} is closed, and something is left or reserved on it")

    def _follow(self, line: Line) -> None:
        """Check that the line stands where lines of its kind do."""
        kind = type(line)
        stage = ORDER.index(kind)
        if self.header is None and stage:
            raise WrongLine("the file does not begin with its header")
        if stage < self._stage or (stage == 0 and self.header is not None):
            name = kind.__struct_config__.tag
            raise WrongLine(f"a line {name!r} that should stand before this place")
        self._stage = stage
        self.lines[kind] += 1

    def _header(self, line: HeaderLine) -> None:
        if line.format not in FORMATS:
            raise WrongLine(f"the format is {line.format!r}, not {FORMAT!r}")
        self.header = line

    def _account(self, line: AccountLine) -> None:
        if line.code in self._accounts:
            raise WrongLine(f"{line.code} is there twice")
        if line.account_type not in set(AccountType) or line.status not in set(AccountStatus):
            raise WrongLine(f"an account of type {line.account_type!r}, status {line.status!r}")
        self._accounts[line.code] = _Account(line, line.account_type in CREDIT_NORMAL)
        self._types[line.code] = line.account_type

    def _entry(self, line: EntryLine) -> None:
        if line.position != self.entries + 1:
            raise WrongLine(f"position {line.position} follows {self.entries}")
        self._reversal(line)
        totals: dict[str, int] = {}
        for posting in line.postings:
            self._posting(posting)
            totals[posting.currency] = totals.get(posting.currency, 0) + posting.amount
        if any(totals.values()) or len({p.account for p in line.postings}) != len(line.postings):
            raise WrongLine("postings sum to 0 per currency, and name each account once")
        # As transfers are shown: a client that lists them finds nothing else among them.
        if line.kind == TRANSFER_KIND and [p.amount > 0 for p in line.postings] != [True, False]:
            raise WrongLine("a transfer has two postings, the debit first")
        self.previous = chain.link(self.previous, line.position, line.content(self._types))
        if self.previous.hex() != line.hash:
            raise WrongLine("the hash is not that of this entry after the one before")
        self._recorded(line)
        self.entries = line.position
        if line.kind == FX_KIND:
            self._changed[line.position] = {p.account: p.amount for p in line.postings}
        if self.entries == self.standing:
            self.hash_at = self.previous

    def _recorded(self, line: EntryLine) -> None:
        """Check that recorded times follow versions: what stood at a time is found by them."""
        at = line.recorded_at
        if at > self.now + CLOCK_STEP_MAX:
            raise WrongLine(f"it is said to be recorded at {at}, which is to come")
        for posting in line.postings:
            account = self._accounts[posting.account]
            if at + CLOCK_STEP_MAX < account.recorded_at:
                raise WrongLine(
                    f"it is said to be recorded at {at}, and {posting.account} has seen"
                    f" {account.recorded_at}"
                )
            account.recorded_at = max(account.recorded_at, at)

    def _reversal(self, line: EntryLine) -> None:
        if line.reverses is not None:
            if line.reverses > self.entries or line.reverses in self.reversed:
                raise WrongLine(f"position {line.reverses} is not there, or was reversed before")
            self.reversed.add(line.reverses)

    def _posting(self, posting: PostingLine) -> None:
        account = self._accounts.get(posting.account)
        if account is None or account.line.currency != posting.currency or not posting.amount:
            raise WrongLine(f"a posting of {posting.amount} {posting.currency} on"
                            f" {posting.account}, which the file does not have so")  # fmt: skip
        account.version += 1
        account.balance += -posting.amount if account.credit_normal else posting.amount
        if (posting.version, posting.balance_after) != (account.version, account.balance):
            raise WrongLine(
                f"{posting.account} is at version {account.version} and {account.balance} after"
                f" this, not {posting.version} and {posting.balance_after}"
            )

    def _metadata(self, line: MetadataLine) -> None:
        if line.position > self.entries or line.number != self.later.get(line.position, 0) + 1:
            raise WrongLine(f"metadata {line.number} of position {line.position} does not follow")
        self.later[line.position] = line.number

    # --- What stands beside the entries ---------------------------------------------------------

    def _beside(
        self, line: FxLine | HoldLine | MonitorLine | PeriodLine | PeriodBalanceLine
    ) -> None:
        match line:
            case FxLine():
                self._fx_transfer(line)
            case HoldLine():
                self._hold(line)
            case MonitorLine():
                self._monitor(line)
            case PeriodLine():
                self._period(line)
            case PeriodBalanceLine():
                self._period_balance(line)

    def _fx_transfer(self, line: FxLine) -> None:
        self._named(line.from_account, line.sold_currency)
        self._named(line.to_account, line.bought_currency)
        for position in (line.sold_entry, line.bought_entry):
            if position > self.entries or position in self.exchanged:
                raise WrongLine(f"position {position} is not there, or is of another FX transfer")
            self.exchanged.add(position)
        self._once(line)
        try:
            quoted = quote(
                sold_minor=line.sold,
                sold_currency=line.sold_currency,
                bought_currency=line.bought_currency,
                rate=Decimal(line.rate),
            )
        except Refusal as refusal:
            raise WrongLine(refusal.message) from None
        if quoted.bought_minor != line.bought:
            raise WrongLine(f"at this rate {quoted.bought_minor} are bought, not {line.bought}")
        self._left(line.sold_entry, line.from_account, line.sold)
        self._left(line.bought_entry, line.to_account, -line.bought)

    def _left(self, position: int, code: str, amount: int) -> None:
        """Check that an exchange's entry took so much from an account; less than 0 came to it."""
        debit = amount if self._accounts[code].credit_normal else -amount
        if self._changed.get(position, {}).get(code) != debit:
            raise WrongLine(f"position {position} is no exchange that posts {debit} on {code}")

    def _hold(self, line: HoldLine) -> None:
        debited = self._named(line.debit_account, line.currency)
        credited = self._named(line.credit_account, line.currency)
        if debited is credited:
            raise WrongLine("a hold from an account to itself")
        self._once(line)
        debited.is_held = credited.is_held = True
        debited.pending_out += line.amount if debited.credit_normal else 0
        credited.pending_out += 0 if credited.credit_normal else line.amount

    def _monitor(self, line: MonitorLine) -> None:
        self._named(line.account)
        if line.measure not in set(MonitorMeasure) or line.direction not in set(MonitorDirection):
            raise WrongLine(f"a monitor of {line.measure!r}, {line.direction!r}")

    def _period(self, line: PeriodLine) -> None:
        if line.month.day != 1 or line.month <= self._last_month:
            raise WrongLine(f"{line.month} begins no month, or none after {self._last_month}")
        if len({line.requested_by, line.approved_by, ""}) != 3:  # noqa: PLR2004  (two and nobody)
            raise WrongLine("a month is closed by two people")
        self._reopening(line)
        self._last_month = line.month

    def _reopening(self, line: PeriodLine) -> None:
        named = (line.reopening_requested_by, line.reopening_approved_by, line.reopening_reason)
        if line.state == "closed":
            if self._reopened:
                raise WrongLine(f"{line.month} is closed, and a month before it is open again")
            if any(named):
                raise WrongLine(f"{line.month} is closed, and says who opened it again")
            return
        # Who opened it was not always kept.
        if any(named) and (not all(named) or named[0] == named[1]):
            raise WrongLine("a month is opened again by two people, for a reason")
        self._reopened[line.month] = line.closings

    def _period_balance(self, line: PeriodBalanceLine) -> None:
        account = self._named(line.account)
        if line.closing > self._reopened.get(line.month, 0):
            raise WrongLine(f"{line.month} is not open again after its closing {line.closing}")
        closing = (line.month, line.closing)
        if closing != self._last_stored:
            self._stored.clear()
        if closing < self._last_stored or line.account in self._stored:
            raise WrongLine(f"closing {line.closing} of {line.month} has {line.account} twice")
        self._last_stored = closing
        self._stored.add(line.account)
        of = (line.month, line.closing, account.line.currency)
        self._residues[*of, False] += line.opening
        self._residues[*of, True] += line.debits - line.credits

    def _named(self, code: str, currency: str | None = None) -> _Account:
        account = self._accounts.get(code)
        if account is None or currency not in {None, account.line.currency}:
            raise WrongLine(f"{code}, {currency}, which the file does not have so")
        return account

    def _once(self, line: FxLine | HoldLine) -> None:
        if line.reference is not None:
            if (type(line), line.reference) in self._references:
                raise WrongLine(f"the reference {line.reference!r} is there twice")
            self._references.add((type(line), line.reference))


def _promised(header: HeaderLine) -> dict[type[Line], int]:
    return {
        AccountLine: header.accounts,
        EntryLine: header.entries,
        MetadataLine: header.metadata,
        FxLine: header.fx_transfers,
        HoldLine: header.holds,
        MonitorLine: header.monitors,
        PeriodLine: header.periods,
        PeriodBalanceLine: header.period_balances,
    }
