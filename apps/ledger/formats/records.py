"""What an export is made of."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account, and what it holds at the end of the export, debit positive, in minor units."""

    code: str
    type: str
    currency: str
    net_minor: int


@dataclass(frozen=True, slots=True)
class LegRecord:
    """One posting: debit positive, in minor units."""

    code: str
    type: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """One journal entry with its postings."""

    id: str
    kind: str
    reference: str
    description: str
    effective_at: datetime
    recorded_at: datetime
    legs: tuple[LegRecord, ...]
