"""Decimal texts of bank files to minor units, exactly."""

import re
from functools import lru_cache
from typing import Final

from apps.banking.formats.problems import refuse
from apps.core.money import exponent

# xs:decimal as ISO 20022 limits it: 18 digits, at most 5 of them after the point.
# A hundred lines of it still fit into the counters of one ledger account.
AMOUNT_MINOR_MAX: Final = 10**16
_DECIMAL: Final = re.compile(r"\A\+?(\d{0,18})(?:\.(\d{0,18}))?\Z", re.ASCII)


@lru_cache(maxsize=256)
def places(currency: str) -> int | None:
    """Return the decimals of the currency, or None if ISO 4217 has no such currency."""
    try:
        return exponent(currency)
    except ValueError:
        return None


def minor(text: str, currency: str, *, line: int | None = None) -> int:
    """
    Return the amount in minor units; it is never negative, as the sign stands elsewhere.

    :raises UnreadableFile: `malformed` if it is no decimal or no currency, `amount_precision` if
        it has more decimals than the currency (zeros beyond them do no harm)
    """
    decimals = places(currency)
    if decimals is None:
        raise refuse("malformed", f"{currency!r} is not an ISO 4217 currency.", line=line)
    match = _DECIMAL.match(text)
    if match is None or not (match[1] or match[2]):
        raise refuse("malformed", f"{text!r} is not an amount.", line=line)
    fraction = (match[2] or "").rstrip("0")
    if len(fraction) > decimals:
        raise refuse(
            "amount_precision",
            f"{text} {currency} has more decimals than the currency ({decimals}).",
            line=line,
        )
    amount = int((match[1] or "") + fraction.ljust(decimals, "0"))
    if amount > AMOUNT_MINOR_MAX:
        raise refuse("malformed", f"{text} {currency} is more than we can book.", line=line)
    return amount
