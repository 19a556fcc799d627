"""What a bank books: the entries of a statement and their details, as values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, kw_only=True)
class Detail:
    """One payment inside an entry; the amount is in minor units and has the entry's sign."""

    amount_minor: int
    end_to_end_id: str = ""
    instruction_id: str = ""
    counterparty_name: str = ""
    counterparty_account: str = ""
    text: str = ""
    reference: str = ""
    return_code: str = ""
    return_text: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One booked line: money in above zero, money out below, in minor units."""

    amount_minor: int
    family: str
    sub_family: str
    message_id: str = ""
    payment_id: str = ""
    is_reversal: bool = False
    text: str = ""
    servicer_reference: str = ""
    details: tuple[Detail, ...] = field(default=())

    def to_json(self) -> str:
        """Write the entry for its row."""
        return json.dumps(asdict(self))


def from_json(text: str) -> Entry:
    """Read an entry back from its row."""
    fields = json.loads(text)
    fields["details"] = tuple(Detail(**detail) for detail in fields["details"])
    return Entry(**fields)
