"""Events of reconciliation."""

from dataclasses import dataclass
from typing import ClassVar

from apps.core.events import Event


@dataclass(frozen=True, kw_only=True)
class BreakOpened(Event):
    """Bank and books disagree; `amount` is in minor units, a credit positive."""

    name: ClassVar[str] = "reconciliation.break.opened"
    aggregate_type: ClassVar[str] = "break"
    read_scope: ClassVar[str] = "breaks:read"
    example: ClassVar[dict[str, object]] = {
        "id": "brk_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "kind": "bank_only",
        "bank_account": "ba_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "bank_line": "bl_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "amount": 100_00,
        "currency": "EUR",
    }

    id: str
    kind: str
    "In what bank and books disagree."
    bank_account: str
    "Whose statement it is."
    bank_line: str | None
    "The line that nothing explains, if it is one."
    amount: int | None
    currency: str


@dataclass(frozen=True, kw_only=True)
class BreakResolved(Event):
    """The disagreement is over, with its reason."""

    name: ClassVar[str] = "reconciliation.break.resolved"
    aggregate_type: ClassVar[str] = "break"
    read_scope: ClassVar[str] = "breaks:read"
    example: ClassVar[dict[str, object]] = {
        "id": "brk_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "kind": "bank_only",
        "resolution": "matched",
    }

    id: str
    kind: str
    "In what bank and books disagreed."
    resolution: str
    "How it ended."
