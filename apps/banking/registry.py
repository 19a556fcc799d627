"""What apps above want to hear from banking; banking imports none of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from apps.banking.formats.values import StatusReport
from apps.core.actors import Actor


class ReportReader(Protocol):
    """Takes the bank's answer to one of our files. It may run again for the same file."""

    def __call__(
        self,
        *,
        organization_id: UUID,
        bank_file_id: UUID,
        report: StatusReport,
        actor: Actor,
        now: datetime,
    ) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTaken:
    """A statement that was just placed in an account's chain."""

    id: UUID
    bank_account_id: UUID
    ledger_account_id: UUID
    chain: str
    currency: str
    opening_minor: int
    # The statement whose gap this one closed.
    closed_gap_of: UUID | None


class StatementListener(Protocol):
    """Hears of statements inside the transaction that takes them."""

    def __call__(
        self,
        *,
        organization_id: UUID,
        statements: Sequence[StatementTaken],
        actor: Actor,
        now: datetime,
    ) -> None: ...


_report_readers: list[ReportReader] = []
_statement_listeners: list[StatementListener] = []


def register_report_reader(reader: ReportReader) -> None:
    """Have `reader` called with every status report, by a worker, outside any transaction."""
    _report_readers.append(reader)


def register_statement_listener(listener: StatementListener) -> None:
    """Have `listener` called in the transaction that takes statements."""
    _statement_listeners.append(listener)


def report_readers() -> Sequence[ReportReader]:
    return list(_report_readers)


def statement_listeners() -> Sequence[StatementListener]:
    return list(_statement_listeners)
