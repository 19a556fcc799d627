"""Lines of a file as rows, built in memory; they are written by COPY."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from apps.banking import queries
from apps.banking.formats.values import Counterparty, Line, LineDetail, References
from apps.banking.models import BankLine, BankLineDetail, BankLineStatus
from apps.banking.states import LineState
from apps.core import encryption
from apps.core.text import mask_card_numbers

ID_MAX: Final = 64
REFERENCE_MAX: Final = 140
TEXT_MAX: Final = 500
OWN_TEXT_MAX: Final = 1000
CODE_MAX: Final = 80
REASON_CODE_MAX: Final = 35


class LineBuilder:
    """Builds the rows of one statement's lines; the organisation's key is read once."""

    def __init__(self, *, organization_id: UUID, bank_account_id: UUID, source: str) -> None:
        self.organization_id = organization_id
        self.bank_account_id = bank_account_id
        self.source = source
        self._seal: Callable[[str, UUID, str], bytes] = encryption.sealer(organization_id)
        self.lines: list[BankLine] = []
        self.details: list[BankLineDetail] = []

    def add(
        self, line: Line, *, id_: UUID, statement_id: UUID, identity: bytes, occurrence: int
    ) -> BankLine:
        """Add the line, and its details where they are more than one."""
        only = line.details[0] if len(line.details) == 1 else None
        row = BankLine(
            id=id_,
            organization_id=self.organization_id,
            bank_account_id=self.bank_account_id,
            statement_id=statement_id,
            source=self.source,
            position=line.position,
            source_line=line.source_line,
            is_booked=line.is_booked,
            booking_date=line.booking_date,
            value_date=line.value_date,
            amount_minor=line.amount_minor,
            currency=line.currency,
            entry_ref=_cut(line.entry_ref, ID_MAX),
            account_servicer_ref=_cut(line.account_servicer_ref, ID_MAX),
            bank_code=_cut(str(line.bank_code), CODE_MAX),
            is_return=line.is_return,
            text=_masked(line.text, OWN_TEXT_MAX),
            unit_count=len(line.units) if only is None else 0,
            identity=identity,
            occurrence=occurrence,
            **self._common(only, id_, queries.LINE_COLUMN),
        )
        _take_batch(row, line.batch)
        self.lines.append(row)
        if only is None:
            self.details += [self._detail(each, line_id=id_) for each in line.details]
        return row

    def statuses(self, new_ids: Iterable[UUID]) -> list[BankLineStatus]:
        """Return a status per line: `new` for those that are to be posted, else `known`."""
        new = set(new_ids)
        return [
            BankLineStatus(
                organization_id=self.organization_id,
                line_id=line.id,
                bank_account_id=self.bank_account_id,
                state=LineState.NEW if line.id in new else LineState.KNOWN,
                booking_date=line.booking_date,
            )
            for line in self.lines
        ]

    def _detail(self, detail: LineDetail, *, line_id: UUID) -> BankLineDetail:
        row = BankLineDetail(
            organization_id=self.organization_id,
            line_id=line_id,
            position=detail.position,
            amount_minor=detail.amount_minor,
            account_servicer_ref=_cut(detail.references.account_servicer_ref, ID_MAX),
            is_return=detail.return_reason is not None or detail.bank_code.subfamily == "RRTN",
        )
        for name, value in self._common(detail, row.id, queries.DETAIL_COLUMN).items():
            setattr(row, name, value)
        return row

    def _common(self, detail: LineDetail | None, id_: UUID, column: str) -> dict[str, Any]:
        """Return the columns that a line with one transaction and a detail share."""
        references = detail.references if detail else References()
        other = detail.counterparty if detail else Counterparty()
        reason = detail.return_reason if detail else None
        return {
            "message_id": _cut(references.message_id, ID_MAX),
            "payment_information_id": _cut(references.payment_information_id, ID_MAX),
            "instruction_id": _cut(references.instruction_id, ID_MAX),
            "end_to_end_id": _cut(references.end_to_end_id, ID_MAX),
            "creditor_references": [
                _cut(each, REFERENCE_MAX) for each in (detail.creditor_references if detail else ())
            ],
            "texts": [_masked(each, TEXT_MAX) for each in (detail.texts if detail else ())],
            "return_code": _cut(reason.code if reason else None, REASON_CODE_MAX),
            "return_text": _masked(reason.text if reason else None, TEXT_MAX),
            **self._counterparty(other, id_, column),
        }

    def _counterparty(self, other: Counterparty, id_: UUID, column: str) -> dict[str, Any]:
        if other == Counterparty():
            return {}
        sealed = self._seal(column, id_, json.dumps(asdict(other), separators=(",", ":")))
        if other.account is None:
            return {"counterparty_sealed": sealed}
        return {
            "counterparty_sealed": sealed,
            "counterparty_index": encryption.blind_index(
                self.organization_id, queries.COUNTERPARTY_PURPOSE, other.account
            ),
            "counterparty_tail": other.account[-4:],
        }


def _take_batch(row: BankLine, batch: References | None) -> None:
    if batch is None:
        return
    row.message_id = row.message_id or _cut(batch.message_id, ID_MAX)
    row.payment_information_id = row.payment_information_id or _cut(
        batch.payment_information_id, ID_MAX
    )


def _cut(text: str | None, length_max: int) -> str:
    """Return the text as a column holds it: banks write more than their own formats allow."""
    return (text or "").replace("\x00", "")[:length_max]


def _masked(text: str | None, length_max: int) -> str:
    """Return free text without card numbers, which nobody can refuse a bank."""
    # Masked before it is cut, or a number across the cut would be none and keep its digits.
    return _cut(mask_card_numbers(text or ""), length_max)
