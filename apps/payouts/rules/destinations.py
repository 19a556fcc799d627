"""Where money may go: IBANs in the SEPA zone, addresses a bank still takes."""

import warnings
from collections.abc import Mapping
from typing import Final

from schwifty import BIC, IBAN
from schwifty.exceptions import (
    InvalidBBANChecksum,
    InvalidChecksumDigits,
    InvalidCountryCode,
    InvalidLength,
    InvalidStructure,
    NationalChecksumNotVerified,
    SchwiftyException,
)

# Some countries publish no algorithm for their own check digits: the ISO 7064 ones still hold.
warnings.filterwarnings("ignore", category=NationalChecksumNotVerified)

# EPC409-09, list of SEPA scheme countries: by ISO code as it stands in the IBAN.
SEPA_COUNTRIES: Final = frozenset(
    {
        "AD", "AL", "AT", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR",
        "GB", "GI", "GR", "HR", "HU", "IE", "IS", "IT", "LI", "LT", "LU", "LV", "MC", "MD",
        "ME", "MK", "MT", "NL", "NO", "PL", "PT", "RO", "RS", "SE", "SI", "SK", "SM", "VA",
    }
)  # fmt: skip

_CAUSES: Final = (
    (InvalidCountryCode, "country"),
    (InvalidLength, "length"),
    (InvalidStructure, "characters"),
    (InvalidChecksumDigits, "checksum"),
    (InvalidBBANChecksum, "national_checksum"),
)


class IbanRefusedError(ValueError):
    """The text is no IBAN; `cause` says why: country, length, characters, checksum, …"""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


def read_iban(text: str) -> str:
    """
    Return the IBAN without spaces, in capitals, its checksums verified.

    :raises IbanRefusedError: naming the first thing that is wrong
    """
    # The electronic form is ASCII; "ß".upper() would otherwise grow the text unseen.
    compact = "".join(text.split())
    if not compact.isascii() or not compact.isalnum():
        raise IbanRefusedError("characters")
    try:
        return str(IBAN(compact.upper(), validate_bban=True).compact)
    except SchwiftyException as refusal:
        raise IbanRefusedError(_cause(refusal)) from refusal


def _cause(refusal: SchwiftyException) -> str:
    for kind, cause in _CAUSES:
        if isinstance(refusal, kind):
            return cause
    return "characters"


def bic_agrees(*, iban: str, bic: str) -> bool:
    """
    Say whether a BIC names the bank of this IBAN.

    The registry of bank codes decides where it knows the bank; elsewhere the country does. A branch
    (the last three letters) never matters.
    """
    try:
        given = BIC(bic)
    except SchwiftyException:
        return False
    parsed = IBAN(iban)
    if given.country_code != parsed.country_code:
        return False
    known = parsed.bic
    return known is None or str(known)[:8] == str(given)[:8]


def address_fault(address: Mapping[str, object]) -> str | None:
    """
    Return what keeps a bank from taking this address, or None.

    Structured or hybrid: town and country always, at most two free lines of 70 (EPC, since
    15 November 2026).
    """
    if not address.get("town") or not address.get("country"):
        return "town_and_country_needed"
    lines = address.get("lines") or []
    if not isinstance(lines, list) or len(lines) > _LINES_MAX:
        return "too_many_lines"
    if any(not isinstance(line, str) or len(line) > _LINE_LENGTH_MAX for line in lines):
        return "line_too_long"
    return None


_LINES_MAX: Final = 2
_LINE_LENGTH_MAX: Final = 70
