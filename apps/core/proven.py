"""
What proves itself in text by its check digits, and is no card number (docs/adr/0144).

An IBAN stands in it electronic, or printed in groups of four (ISO 13616); a structured creditor
reference (ISO 11649) with spaces wherever its payer put them.
"""

import re
from collections.abc import Iterator
from typing import Final

from apps.core.ibans import is_valid, spec_of

_HEAD: Final = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}")
# A card number that is written with dashes may begin in what looks like an IBAN's last group.
_GOES_ON: Final = re.compile(r"-?[0-9A-Za-z]")
_GROUP: Final = 4
_REFERENCE: Final = "RF"
# ISO 7064, mod 97-10: 00, 01 and 99 would leave the right rest as well, and are never computed.
_CHECK_DIGITS: Final = range(2, 99)
_BODY: Final = re.compile(r"(?: ?[0-9A-Za-z]){1,21}", re.ASCII)


def blank_proven(text: str) -> str:
    """Return the text, as long as it was, with `#` for each character of what proves itself."""
    kept, at = [], 0
    for head in _HEAD.finditer(text):
        start = head.start()
        find_end = _reference_end if text.startswith(_REFERENCE, start) else _iban_end
        # What begins inside one that was found is a part of it.
        if start >= at and (end := find_end(text, start)) is not None:
            kept += [text[at:start], "#" * (end - start)]
            at = end
    return "".join([*kept, text[at:]])


def find_references(text: str) -> Iterator[tuple[int, int]]:
    """Yield where creditor references stand that prove themselves, from the first on."""
    at = 0
    for head in _HEAD.finditer(text):
        start = head.start()
        is_one = start >= at and text.startswith(_REFERENCE, start)
        if is_one and (end := _reference_end(text, start)) is not None:
            yield start, end
            at = end


def _reference_end(text: str, start: int) -> int | None:
    """
    Return where the reference ends that starts there, or None.

    No country says how long it is: it ends with the first word up to which its check digits are
    right, so that as little as can be is spared of what stands behind it.
    """
    head = start + len(_REFERENCE) + 2
    body = _BODY.match(text, head)
    check_digits = int(text[head - 2 : head])
    if body is None or check_digits not in _CHECK_DIGITS:
        return None
    # What the check digits are of: the body, `RF`, and they themselves, all in numerals.
    rest, behind = 0, 27_15_00 + check_digits
    for at, character in enumerate(body.group(), head):
        if character == " ":
            continue
        shift = 10 if character.isdecimal() else 100
        rest = (rest * shift + int(character, 36)) % 97
        if (rest * 10**6 + behind) % 97 == 1 and not _GOES_ON.match(text, at + 1):
            return at + 1
    return None


def _iban_end(text: str, start: int) -> int | None:
    """Return where the IBAN ends that starts there, or None: its country says how long it is."""
    spec = spec_of(text[start : start + 2].upper())
    # The library knows forms too that countries outside the registry are said to use.
    if spec is None or spec.aspirational:
        return None
    length = spec.iban_length
    for end in (start + length, start + length + (length - 1) // _GROUP):
        written = text[start:end]
        compact = written.replace(" ", "")
        if (
            len(compact) == length
            and written in {compact, _grouped(compact)}
            and not _GOES_ON.match(text, end)
            and int(compact[2:4]) in _CHECK_DIGITS
            and is_valid(compact.upper(), spec)
        ):
            return end
    return None


def _grouped(compact: str) -> str:
    return " ".join(compact[at : at + _GROUP] for at in range(0, len(compact), _GROUP))
