"""
What a bank's reason code means for the money, the destination and a further try.

ISO external code sets (ExternalStatusReason1Code, ExternalReturnReason1Code) and Nacha return
codes. The *status* of a message decides whether money moves at all; the code decides how.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MoneyEffect(StrEnum):
    TO_CUSTOMER = "to_customer"
    STAYS_RESERVED = "stays_reserved"
    NOTHING_MOVES = "nothing_moves"
    TO_SUSPENSE = "to_suspense"


class DestinationEffect(StrEnum):
    KEPT = "kept"
    SUSPENDED = "suspended"
    SUSPENDED_SECOND_TIME = "suspended_second_time"
    DISABLED = "disabled"


class Retry(StrEnum):
    NEVER = "never"
    BY_HAND = "by_hand"
    AFTER_FUNDING = "after_funding"
    NEXT_CYCLE = "next_cycle"
    NEW_VERSION = "new_version"
    OTHER_RAIL = "other_rail"
    ASK_FIRST = "ask_first"


class Desk(StrEnum):
    """Who has to look at it."""

    NOBODY = "nobody"
    STAFF = "staff"
    TREASURY = "treasury"
    COMPLIANCE = "compliance"
    INCIDENT = "incident"


@dataclass(frozen=True, kw_only=True)
class Handling:
    """One row of the code table."""

    reject: MoneyEffect = MoneyEffect.TO_CUSTOMER
    returned: MoneyEffect = MoneyEffect.TO_CUSTOMER
    destination: DestinationEffect = DestinationEffect.KEPT
    retry: Retry = Retry.NEVER
    desk: Desk = Desk.NOBODY


UNKNOWN_CODE: Final = Handling(returned=MoneyEffect.TO_SUSPENSE, desk=Desk.STAFF)

_GONE = Handling(destination=DestinationEffect.DISABLED)
_BLOCKED = Handling(destination=DestinationEffect.SUSPENDED, desk=Desk.STAFF)
_OUR_DATA = Handling(retry=Retry.NEVER, desk=Desk.INCIDENT)
# The bank may hold an earlier copy of the same instruction.
_DUPLICATE = Handling(
    reject=MoneyEffect.NOTHING_MOVES,
    returned=MoneyEffect.NOTHING_MOVES,
    desk=Desk.STAFF,
)
_DATA_MISSING = Handling(retry=Retry.NEW_VERSION)
_OTHER_RAIL = Handling(destination=DestinationEffect.SUSPENDED, retry=Retry.OTHER_RAIL)
_CONTACT = Handling(destination=DestinationEffect.SUSPENDED_SECOND_TIME, retry=Retry.BY_HAND)
_REGULATORY = Handling(destination=DestinationEffect.SUSPENDED, desk=Desk.COMPLIANCE)
_RECALLED = Handling(desk=Desk.STAFF)
_TECHNICAL = Handling(reject=MoneyEffect.STAYS_RESERVED, retry=Retry.ASK_FIRST, desk=Desk.STAFF)
_SENT_BACK = Handling(destination=DestinationEffect.SUSPENDED, desk=Desk.STAFF)


def _rows(codes: str, handling: Handling) -> dict[str, Handling]:
    return dict.fromkeys(codes.split(), handling)


CODES: Final[Mapping[str, Handling]] = {
    **_rows("AC01 AC03 AC04 R02 R03 R04", _GONE),
    **_rows("AC06 AG01 R20 R23", _BLOCKED),
    **_rows("AG02 AM09 AM10 FF01", _OUR_DATA),
    "AM04": Handling(
        reject=MoneyEffect.STAYS_RESERVED, retry=Retry.AFTER_FUNDING, desk=Desk.TREASURY
    ),
    **_rows("AM05 DUPL DU01 DU02 DU03 DU04 DU05 R24", _DUPLICATE),
    **_rows("BE04 RR03", _DATA_MISSING),
    **_rows("CNOR RC01", _OTHER_RAIL),
    "ED05": Handling(reject=MoneyEffect.STAYS_RESERVED, retry=Retry.NEXT_CYCLE),
    "MD07": Handling(
        reject=MoneyEffect.TO_CUSTOMER,
        returned=MoneyEffect.TO_SUSPENSE,
        destination=DestinationEffect.DISABLED,
        desk=Desk.COMPLIANCE,
    ),
    **_rows("MS02 MS03", _CONTACT),
    **_rows("RR04 R16", _REGULATORY),
    **_rows("FOCR CUST", _RECALLED),
    **_rows("TECH TM01 AB05 AB06 AB07 AB08 AB09 AB10", _TECHNICAL),
    **_rows("R05 R07 R10 R11 R29", _SENT_BACK),
}


def handling(code: str | None) -> Handling:
    """Return what a reason code asks for; a code nobody mapped goes to the staff queue."""
    return CODES.get((code or "").strip().upper(), UNKNOWN_CODE)
