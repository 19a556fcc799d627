"""What the ledger decides over: balances, holds, commands, and what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from apps.core.errors import Refusal
from apps.ledger.rules.later import LaterBalances


class AccountStatus(StrEnum):
    """Whether a ledger account can be posted to: only an open one; a closed one was empty."""

    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


class HoldStatus(StrEnum):
    """How a hold ended, if it did: one captured in parts is open until it is used up."""

    OPEN = "open"
    CAPTURED = "captured"
    VOIDED = "voided"
    EXPIRED = "expired"


class MonitorMeasure(StrEnum):
    """Which balance a monitor watches."""

    AVAILABLE = "available"
    POSTED = "posted"


class MonitorDirection(StrEnum):
    """On which side of its threshold a monitor tells."""

    BELOW = "below"
    ABOVE = "above"


class AccountType(StrEnum):
    """What an account is in the balance sheet, and by that its normal side (`CREDIT_NORMAL`)."""

    ASSET = "asset"
    LIABILITY = "liability"
    EQUITY = "equity"
    INCOME = "income"
    EXPENSE = "expense"


# What moves between two accounts, the debit first; an entry of another shape is of another kind.
TRANSFER_KIND = "transfer"

# How much may ever move over one side of an account: sums of such counters still fit a bigint.
COUNTER_MAX = 10**18

# How references of Kassa's own acts begin; a client's own by such a name would stand in their way.
RESERVED_REFERENCES = ("bank_account:", "bank_line:", "bank_line_detail:", "payout:")

CREDIT_NORMAL = frozenset({AccountType.LIABILITY, AccountType.EQUITY, AccountType.INCOME})


@dataclass(slots=True)
class BalanceState:
    """
    One balance row: four counters, as TigerBeetle keeps them, and what decides over them.

    `min_available_minor` is the floor: None is no floor, 0 no overdraft, negative a credit line.
    """

    id: UUID
    currency: str
    credit_normal: bool
    status: str = AccountStatus.OPEN
    min_available_minor: int | None = None
    internal: bool = True
    posted_debits: int = 0
    posted_credits: int = 0
    pending_debits: int = 0
    pending_credits: int = 0
    version: int = 0
    latest_effective_at: datetime | None = None
    monitored: bool = False
    # Whose copy this is: who decides over a batch changes its own copies and no others.
    owner: object = field(default=None, compare=False, repr=False)

    @property
    def posted(self) -> int:
        """The posted balance on the account's normal side."""
        net = self.posted_credits - self.posted_debits
        return net if self.credit_normal else -net

    @property
    def pending_out(self) -> int:
        return self.pending_debits if self.credit_normal else self.pending_credits

    @property
    def pending_in(self) -> int:
        return self.pending_credits if self.credit_normal else self.pending_debits

    @property
    def available(self) -> int:
        """What may leave now: pending out is taken off, pending in is not added."""
        return self.posted - self.pending_out

    def copy(self, *, owner: object = None) -> "BalanceState":
        # Called for every account of a batch; the standard library's copy takes thrice as long.
        return BalanceState(
            self.id, self.currency, self.credit_normal, self.status, self.min_available_minor,
            self.internal, self.posted_debits, self.posted_credits, self.pending_debits,
            self.pending_credits, self.version, self.latest_effective_at, self.monitored, owner,
        )  # fmt: skip


@dataclass(slots=True)
class HoldState:
    """A hold as it stands: what it reserves, and what became of it."""

    id: UUID
    debit_account_id: UUID
    credit_account_id: UUID
    currency: str
    amount_minor: int
    captured_minor: int = 0
    status: str = HoldStatus.OPEN
    expires_at: datetime | None = None
    reference: str | None = None
    multi_capture: bool = False
    event_sequence: int = 0

    @property
    def remaining_minor(self) -> int:
        """What it still reserves while it is open."""
        return self.amount_minor - self.captured_minor


class Leg(NamedTuple):
    """One signed amount on one account: debit > 0, credit < 0, never 0."""

    account_id: UUID
    amount_minor: int
    currency: str = ""


@dataclass(slots=True)
class Transfer:
    """
    Move `amount_minor` (> 0) from the debited to the credited account, both in `currency`.

    `up_to` moves as much of it as the floors allow. Without `effective_at` it happens when it is
    decided. `force` lets a back-dated one break a balance of the past, never one from now on.
    With a reference it is posted once for ever: the same command again is a replay. `linked`
    chains it to the next command: all of a chain succeed, or none.
    """

    id: UUID
    debit_account_id: UUID
    credit_account_id: UUID
    amount_minor: int
    currency: str
    kind: str = TRANSFER_KIND
    reference: str | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] | None = None
    up_to: bool = False
    force: bool = False
    linked: bool = False

    def __post_init__(self) -> None:
        if self.amount_minor <= 0:
            msg = "A transfer moves a positive amount."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostEntry:
    """
    Post one journal entry. Legs without a currency have the entry's.

    Reference, effective time, `force` and `linked` are those of a `Transfer`. `recorded_at` and
    `actor` are the original's where a journal is imported, and nowhere else.
    """

    id: UUID
    legs: tuple[Leg, ...]
    currency: str
    kind: str
    reference: str | None = None
    description: str = ""
    effective_at: datetime | None = None
    recorded_at: datetime | None = None
    actor: str | None = None
    metadata: Mapping[str, object] | None = None
    reverses: UUID | None = None
    force: bool = False
    linked: bool = False

    def __post_init__(self) -> None:
        totals: dict[str, int] = {}
        for leg in self.legs:
            currency = leg.currency or self.currency
            totals[currency] = totals.get(currency, 0) + leg.amount_minor
        if not self.legs or any(totals.values()) or not all(leg.amount_minor for leg in self.legs):
            msg = "An entry has legs of which none is 0, and sums to 0 per currency."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold:
    """
    Reserve an amount of the debited account for the credited one.

    `multi_capture`: captured in parts until it is used up; else one capture frees the rest.
    """

    id: UUID
    debit_account_id: UUID
    credit_account_id: UUID
    amount_minor: int
    currency: str
    reference: str | None = None
    expires_at: datetime | None = None
    multi_capture: bool = False
    metadata: Mapping[str, object] | None = None
    linked: bool = False

    def __post_init__(self) -> None:
        if self.amount_minor <= 0:
            msg = "A hold reserves a positive amount."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHold:
    """
    Post the captured part of a hold (all that is left by default).

    The rest is released, unless the hold was placed with `multi_capture`; 0 releases all.
    """

    hold_id: UUID
    entry_id: UUID
    kind: str
    reference: str | None = None
    amount_minor: int | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] | None = None
    linked: bool = False

    def __post_init__(self) -> None:
        if self.amount_minor is not None and self.amount_minor < 0:
            msg = "A capture posts an amount, or 0 to release the hold."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidHold:
    """Release all that a hold still reserves."""

    hold_id: UUID
    linked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireHold:
    """Release all that a hold still reserves, because its time is over."""

    hold_id: UUID
    linked: bool = False


type Command = Transfer | PostEntry | PlaceHold | CaptureHold | VoidHold | ExpireHold


class PostedLine(NamedTuple):
    """One posting as it is written: the account's version and balances right after it."""

    account_id: UUID
    amount_minor: int
    currency: str
    account_version: int
    balance_after_minor: int
    available_after_minor: int


class BrokenFloor(NamedTuple):
    """
    A balance of the past that what was forced leaves below its account's floor: the lowest such.

    On the account's normal side, in minor units; `at` is from when on it stands.
    """

    account_id: UUID
    currency: str
    min_available_minor: int
    balance_minor: int
    at: datetime


class BalanceAfter(NamedTuple):
    """An account right after a command: its version, and its balances on its normal side."""

    id: UUID
    version: int
    posted: int
    available: int


@dataclass(frozen=True, slots=True)
class KnownEntry:
    """An entry that stands already under a reference."""

    id: UUID
    legs: tuple[tuple[UUID, int, str], ...]


@dataclass(slots=True)
class Outcome:
    """
    What became of one command: `posted`, `held`, `voided`, `expired`, `replayed`, or `refused`.

    `entry_id` is the journal entry that now stands, `effective_at` the business time it got, `hold`
    the hold right after the command. `broken` is what it broke, where it was forced.
    """

    command: Command
    status: str
    entry_id: UUID | None = None
    lines: tuple[PostedLine, ...] = ()
    refusal: Refusal | None = None
    effective_at: datetime | None = None
    after: tuple[BalanceAfter, ...] = ()
    hold: HoldState | None = None
    broken: tuple[BrokenFloor, ...] = ()

    @property
    def balances(self) -> tuple[BalanceAfter, ...]:
        """The accounts touched, as they were right after this command."""
        if self.after or not self.lines:
            return self.after
        return tuple(
            BalanceAfter(line[0], line[3], line[4], line[5])  # by place: for each of thousands
            for line in self.lines
        )


@dataclass(slots=True)
class State:
    """
    All that a batch decides over. `apply` changes copies of its own.

    `later` has the accounts with a floor on which a command is dated before something posted, in
    the books or in the batch itself. `closed` are the closed months that commands reach into, as
    their first instant, the first after them, and their name.
    """

    balances: dict[UUID, BalanceState]
    holds: dict[UUID, HoldState] = field(default_factory=dict)
    known: dict[str, KnownEntry] = field(default_factory=dict)
    known_holds: dict[str, UUID] = field(default_factory=dict)
    now: datetime | None = None
    # A client's own transfers may not touch accounts that only Kassa's acts post to.
    reach_internal: bool = True
    later: dict[UUID, LaterBalances] = field(default_factory=dict)
    closed: list[tuple[datetime, datetime, str]] = field(default_factory=list)
