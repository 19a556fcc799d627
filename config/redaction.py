"""Mask what must not leave the process in a log line or an error report, by its shape."""

import re
from collections.abc import Mapping
from typing import Final

from stdnum import iban, luhn

_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_KEY: Final = re.compile(
    r"kassa_(?:live|test)_[0-9A-Za-z]+(?:_[0-9A-Za-z]+)?|whsec_[0-9A-Za-z+/=]+"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic|token)\s+[\w.~+/=-]{8,}")
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@]*):[^\s@/]+@")
# Candidates only: whether one is a bank account or a card number, its check digits say, so that
# ids and references of other kinds stay readable.
_IBAN: Final = re.compile(r"\b[A-Za-z]{2}\d{2}(?: ?[0-9A-Za-z]){11,30}\b")
_PAN: Final = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_IBAN_LENGTH_MIN: Final = 15

SECRET_NAMES: Final = re.compile(
    r"(?i)password|secret|token|authorization|cookie|api_?key(?!_id$)|pepper|private|iban|account_?number|e_?mail"
)
MASK: Final = "[masked]"


def redact_text(text: str) -> str:
    """Return the text with bank accounts, card numbers, addresses, keys and passwords masked."""
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _KEY.sub("[key]", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _EMAIL.sub("[email]", text)
    text = _IBAN.sub(_mask_iban, text)
    return _PAN.sub(_mask_pan, text)


def redact(value: object, *, name: str = "") -> object:
    """
    Return the value fit for a log: numbers as they are, containers walked, all else as masked text.

    Whatever stands under a telling name is masked whole, whatever its shape.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if name and SECRET_NAMES.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): redact(item, name=str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    return redact_text(str(value))


def _mask_iban(match: re.Match[str]) -> str:
    # Text that follows after a space may look like more of it: the longest valid beginning counts.
    found = match.group()
    for end in range(len(found), _IBAN_LENGTH_MIN - 1, -1):
        if found[end - 1] != " " and iban.is_valid(found[:end]):
            return "[iban]" + found[end:]
    return found


def _mask_pan(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match.group())
    return "[pan]" if luhn.is_valid(digits) else match.group()
