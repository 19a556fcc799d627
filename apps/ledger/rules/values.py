"""What the ledger decides over: balances, holds, commands, and what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from apps.core.errors import Refusal


class AccountStatus(StrEnum):
    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


class HoldStatus(StrEnum):
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
    ASSET = "asset"
    LIABILITY = "liability"
    EQUITY = "equity"
    INCOME = "income"
    EXPENSE = "expense"


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
    # Some balance monitor watches it: what it is after each command has to be looked at.
    monitored: bool = False

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


@dataclass(frozen=True, slots=True)
class Leg:
    """One signed amount on one account: debit > 0, credit < 0, never 0."""

    account_id: UUID
    amount_minor: int
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostEntry:
    """
    Post one journal entry. Legs without a currency have the entry's.

    With a reference it is posted once for ever: the same command again is a replay. `linked`
    chains it to the next command: all of a chain succeed, or none.
    """

    id: UUID
    legs: tuple[Leg, ...]
    currency: str
    kind: str
    reference: str | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    reverses: UUID | None = None
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
    """Reserve an amount of the debited account for the credited one."""

    id: UUID
    debit_account_id: UUID
    credit_account_id: UUID
    amount_minor: int
    currency: str
    reference: str | None = None
    expires_at: datetime | None = None
    linked: bool = False

    def __post_init__(self) -> None:
        if self.amount_minor <= 0:
            msg = "A hold reserves a positive amount."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHold:
    """Post the captured part of a hold (all of it by default) and release the rest."""

    hold_id: UUID
    entry_id: UUID
    kind: str
    reference: str | None = None
    amount_minor: int | None = None
    description: str = ""
    effective_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    linked: bool = False

    def __post_init__(self) -> None:
        if self.amount_minor is not None and self.amount_minor < 0:
            msg = "A capture posts an amount, or 0 to release the hold."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidHold:
    """Release all of a hold."""

    hold_id: UUID
    linked: bool = False


type Command = PostEntry | PlaceHold | CaptureHold | VoidHold


def transfer(
    *,
    id_: UUID,
    debit_account_id: UUID,
    credit_account_id: UUID,
    amount_minor: int,
    currency: str,
    kind: str = "transfer",
    reference: str | None = None,
    description: str = "",
    **more: object,
) -> PostEntry:
    """Return the command that moves `amount_minor` (> 0) from the debited to the credited one."""
    return PostEntry(
        id=id_,
        legs=(Leg(debit_account_id, amount_minor), Leg(credit_account_id, -amount_minor)),
        currency=currency,
        kind=kind,
        reference=reference,
        description=description,
        **more,  # type: ignore[arg-type]  # PostEntry's own remaining fields
    )


@dataclass(frozen=True, slots=True)
class PostedLine:
    """One posting as it is written: the account's version and balance right after it."""

    account_id: UUID
    amount_minor: int
    currency: str
    account_version: int
    balance_after_minor: int


@dataclass(frozen=True, slots=True)
class KnownEntry:
    """An entry that stands already under a reference."""

    id: UUID
    legs: tuple[tuple[UUID, int, str], ...]


@dataclass(slots=True)
class Outcome:
    """
    What became of one command: `posted`, `held`, `voided`, `replayed`, or `refused`.

    `entry_id` is the journal entry that now stands, `balances` the accounts touched, as they were
    right after this command.
    """

    command: Command
    status: str
    entry_id: UUID | None = None
    lines: tuple[PostedLine, ...] = ()
    balances: tuple[BalanceState, ...] = ()
    refusal: Refusal | None = None
    posted_at: datetime | None = None


@dataclass(slots=True)
class State:
    """All that a batch decides over. `apply` changes copies of its own."""

    balances: dict[UUID, BalanceState]
    holds: dict[UUID, HoldState] = field(default_factory=dict)
    known: dict[str, KnownEntry] = field(default_factory=dict)
    now: datetime | None = None
    # A client's own transfers may not touch accounts that only Kassa's acts post to.
    reach_internal: bool = True
