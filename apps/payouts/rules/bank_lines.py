"""The values that cross from a bank's statement into payouts, and back."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class BankLineFact:
    """
    One booked line of a statement that names a payout of ours.

    `amount_minor` is positive whichever way the line goes; `money_account_id` is the ledger account
    on which that money stands now: the bank's, or suspense when the line was parked before.
    `booked_at` is the first instant of the bank's booking day.
    """

    bank_line_id: UUID
    bank_account_id: UUID
    money_account_id: UUID
    amount_minor: int
    currency: str
    booked_at: datetime
    end_to_end_id: str | None = None
    payment_information_id: str | None = None
    message_id: str | None = None
    reason_code: str | None = None
    reason_text: str = ""


class LineOutcome(StrEnum):
    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    PARKED = "parked"
    SUPERSEDED = "superseded"
    UNMATCHED = "unmatched"


@dataclass(frozen=True, kw_only=True)
class LineResult:
    """What became of a line: the attempts it settled or returned, the entries it made."""

    outcome: LineOutcome
    attempt_ids: tuple[UUID, ...] = ()
    entry_ids: tuple[UUID, ...] = ()
