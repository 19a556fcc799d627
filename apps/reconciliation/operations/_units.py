"""Bank lines as units of matching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from apps.banking import queries as banking
from apps.banking.models import BankLine, BankLineDetail
from apps.reconciliation.rules import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class LineUnits:
    """A line and what is matched of it: itself, or its transactions."""

    line: BankLine
    units: Sequence[Unit]

    @property
    def is_split(self) -> bool:
        return self.line.unit_count > 1


def units_of(organization_id: UUID, lines: Sequence[BankLine]) -> list[LineUnits]:
    """Return the units of these lines, in the order of the lines; details in one query."""
    split = [line.id for line in lines if line.unit_count > 1]
    details: Mapping[UUID, list[BankLineDetail]] = (
        banking.list_details(organization_id=organization_id, line_ids=split) if split else {}
    )
    return [
        LineUnits(
            line=line,
            units=[_unit(line, row) for row in details[line.id]]
            if line.unit_count > 1
            else [_unit(line, None)],
        )
        for line in lines
    ]


def _unit(line: BankLine, detail: BankLineDetail | None) -> Unit:
    row: BankLine | BankLineDetail = detail or line
    return Unit(
        line_id=line.id,
        detail_id=detail.id if detail else None,
        amount_minor=(detail.amount_minor or 0) if detail else line.amount_minor,
        currency=line.currency,
        booking_date=line.booking_date,
        # A line marked as a return returns all of its transactions.
        is_return=line.is_return if detail is None else detail.is_return or line.is_return,
        end_to_end_id=row.end_to_end_id,
        payment_information_id=row.payment_information_id or line.payment_information_id,
        message_id=row.message_id or line.message_id,
        return_code=row.return_code,
        return_text=row.return_text or line.text,
        creditor_references=row.creditor_references,
        texts=[*row.texts, line.text] if line.text else row.texts,
        sender_tail=row.counterparty_tail,
        sender_index=bytes(row.counterparty_index) if row.counterparty_index else None,
    )
