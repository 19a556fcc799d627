"""
What a bank file says, as frozen values.

Amounts are minor units, signed from our side: a credit to our account is positive. Texts are as
sent, trimmed; `None` is "not given". `NOTPROVIDED` and `NONREF` count as not given.
"""

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, override


class Kind(StrEnum):
    """What a file is for, whatever its version."""

    STATEMENT = "camt.053"
    NOTIFICATION = "camt.054"
    STATUS_REPORT = "pain.002"
    PAYMENTS = "pain.001"


BOOKED: Final = "BOOK"
RETURN_SUBFAMILY: Final = "RRTN"


@dataclass(frozen=True, slots=True, kw_only=True)
class BankCode:
    """BkTxCd: the ISO domain, family and subfamily, and the bank's own code."""

    domain: str | None = None
    family: str | None = None
    subfamily: str | None = None
    proprietary: str | None = None

    @override
    def __str__(self) -> str:
        iso = "/".join(part or "" for part in (self.domain, self.family, self.subfamily))
        return "+".join(part for part in (iso.strip("/"), self.proprietary) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterparty:
    """The other side: who paid us, or whom we paid."""

    name: str | None = None
    account: str | None = None
    bic: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Every reference a bank passes on."""

    message_id: str | None = None
    payment_information_id: str | None = None
    instruction_id: str | None = None
    end_to_end_id: str | None = None
    transaction_id: str | None = None
    mandate_id: str | None = None
    account_servicer_ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something was refused or sent back: the code as sent, and the bank's words."""

    code: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDetail:
    """
    One transaction inside an entry.

    The amount has the entry's sign; it is `None` where none is given in the entry's currency.
    """

    position: int
    amount_minor: int | None
    references: References = field(default_factory=References)
    bank_code: BankCode = field(default_factory=BankCode)
    counterparty: Counterparty = field(default_factory=Counterparty)
    creditor_references: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    return_reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry of a statement or notification."""

    position: int
    source_line: int | None = None
    entry_ref: str | None = None
    amount_minor: int
    currency: str
    booking_date: date
    value_date: date | None = None
    status: str = BOOKED
    is_reversal: bool = False
    account_servicer_ref: str | None = None
    bank_code: BankCode = field(default_factory=BankCode)
    batch: References | None = None
    batch_count: int | None = None
    text: str = ""
    details: tuple[LineDetail, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_booked(self) -> bool:
        return self.status == BOOKED

    @property
    def units(self) -> tuple[LineDetail, ...]:
        """
        The details that are units of matching, or none where the entry itself is the unit.

        They are units where each has an amount and they add up to the entry.
        """
        amounts = [detail.amount_minor for detail in self.details]
        known = [amount for amount in amounts if amount is not None]
        if self.details and len(known) == len(amounts) and sum(known) == self.amount_minor:
            return self.details
        return ()

    @property
    def is_return(self) -> bool:
        """Say whether a return is marked: RvslInd, a code ending in RRTN, or RtrInf."""
        return (
            self.is_reversal
            or self.bank_code.subfamily == RETURN_SUBFAMILY
            or any(
                detail.return_reason is not None or detail.bank_code.subfamily == RETURN_SUBFAMILY
                for detail in self.details
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A booked balance; `code` is OPBD, PRCD, ITBD or CLBD."""

    code: str
    amount_minor: int
    currency: str
    date: date
    source_line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One row of TxsSummry: a count, and a sum as the decimal text sent."""

    count: int | None = None
    sum_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """TxsSummry: what the bank says the entries add up to."""

    all: Total = field(default_factory=Total)
    credits: Total = field(default_factory=Total)
    debits: Total = field(default_factory=Total)
    source_line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account as the file names it: compared as text, its check digits never judged."""

    identification: str
    currency: str | None = None
    owner: str | None = None
    bic: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One account's statement (camt.053) or notification (camt.054)."""

    kind: Kind
    position: int
    statement_id: str
    sequence: str | None = None
    legal_sequence: str | None = None
    page_number: int | None = None
    is_last_page: bool = True
    copy_indicator: str | None = None
    account: Account
    balances: tuple[Balance, ...] = ()
    lines: tuple[Line, ...] = ()
    summary: Summary | None = None
    source_line: int | None = None

    @property
    def name(self) -> str:
        return self.statement_id or f"number {self.position}"

    @property
    def opening(self) -> Balance | None:
        """OPBD, else PRCD; on a later page the first ITBD."""
        return self._first("OPBD") or self._first("PRCD") or self._interim(0)

    @property
    def closing(self) -> Balance | None:
        """CLBD; on an earlier page the last ITBD."""
        return self._first("CLBD") or self._interim(-1)

    @property
    def booked(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.is_booked)

    @property
    def is_whole(self) -> bool:
        """Say whether no other page belongs to it."""
        return self.page_number in {None, 1} and self.is_last_page

    @property
    def currency(self) -> str | None:
        """The account's currency: as the account says, else its opening balance, else an entry."""
        if self.account.currency is not None:
            return self.account.currency
        if self.opening is not None:
            return self.opening.currency
        return self.lines[0].currency if self.lines else None

    def _first(self, code: str) -> Balance | None:
        return next((balance for balance in self.balances if balance.code == code), None)

    def _interim(self, index: int) -> Balance | None:
        interim = [balance for balance in self.balances if balance.code == "ITBD"]
        return interim[index] if interim else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CamtFile:
    """A camt.053 or camt.054 file: its statements in the order of the file."""

    kind: Kind
    version: str
    message_id: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionStatus:
    """What the bank says of one of our transactions."""

    status: str | None
    end_to_end_id: str | None
    instruction_id: str | None
    reasons: tuple[Reason, ...] = ()
    source_line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentStatus:
    """What it says of one payment information block, and of the transactions it lists."""

    status: str | None
    payment_information_id: str | None
    reasons: tuple[Reason, ...] = ()
    transactions: tuple[TransactionStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """A pain.002 file: the bank's answer to one pain.001."""

    kind: Kind = Kind.STATUS_REPORT
    version: str
    message_id: str
    original_message_id: str | None
    group_status: str | None
    reasons: tuple[Reason, ...] = ()
    payments: tuple[PaymentStatus, ...] = ()
