"""
What text from outside may look like (operations.md, sections 4 and 6).

Text that two people could read differently, or that moves the cursor of whoever prints it, is
refused; card numbers are refused because Kassa must never hold one.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from apps.core.cards import DIGIT_RUN, DIGITS_MIN, find_cards
from apps.core.ibans import find_ibans
from apps.core.proven import blank_proven, find_references

MARKS_MAX: Final = 4

# Control, format (bidi, zero-width, byte order mark), surrogate, private, unassigned, and the
# two separators that end a line or a paragraph.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARK_CATEGORIES: Final = frozenset({"Mn", "Me", "Mc"})

_IBAN_SHAPE: Final = re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_UUID: Final = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")


class TextRefused(ValueError):
    """The text is not one we accept; the message says why, and repeats none of it."""

    code = "invalid_text"


class CardNumberRefused(TextRefused):
    """The text seems to hold a card number."""

    code = "pan_not_allowed"


def clean(text: str) -> str:
    """
    Return the text in normal form C.

    :raises TextRefused: as `in_normal_form` does
    :raises CardNumberRefused: if it seems to hold a card number
    """
    text = in_normal_form(text)
    if holds_card_number(text):
        raise CardNumberRefused("Card numbers are not allowed here.")
    return text


def in_normal_form(text: str) -> str:
    """
    Return the text in normal form C, whatever its numbers are: for what is no free text.

    :raises TextRefused: if it holds a control, bidi, zero-width, private or unassigned character,
        or more than four combining marks in a row
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
        _refuse_characters(text)
    elif not text.isprintable():
        raise TextRefused("Control characters are not allowed.")
    return text


def _refuse_characters(text: str) -> None:
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category in _REFUSED_CATEGORIES:
            raise TextRefused(
                f"The character U+{ord(character):04X} is not allowed: control, bidirectional,"
                " zero-width, private and unassigned characters are refused."
            )
        marks = marks + 1 if category in _MARK_CATEGORIES else 0
        if marks > MARKS_MAX:
            raise TextRefused(f"More than {MARKS_MAX} combining marks stand in a row.")


def holds_card_number(text: str) -> bool:
    """Say whether the text seems to hold a card number, in any script's digits."""
    # Most texts are shorter than any card number, or hold no such run of digits.
    if len(text) < DIGITS_MIN or (text.isascii() and not DIGIT_RUN.search(text)):
        return False
    return any(True for _span in _card_spans(text))


def mask_card_numbers(text: str) -> str:
    """Return the text with all but the last four digits of each card number masked."""
    parts: list[str] = []
    at = 0
    for start, end in _card_spans(text):
        parts += text[at:start], re.sub(r"\d", "•", text[start : end - 4])
        at = end - 4
    return "".join([*parts, text[at:]])


def mask_ibans(text: str) -> str:
    """Return the text with the IBANs in it, however written, masked but for country and end."""
    parts: list[str] = []
    at = 0
    folded = text if text.isascii() else "".join(_fold(character) for character in text)
    # The end of a UUID may seem to be one.
    for start, end in find_ibans(_UUID.sub(_blank, folded)):
        parts += text[at:start], _mask_account(folded[start:end])
        at = end
    return "".join([*parts, text[at:]]) if parts else text


def mask_account_numbers(text: str) -> str:
    """Return the text with IBANs masked as `mask_ibans` does, and what only looks like one too."""
    parts: list[str] = []
    at = 0
    # A creditor reference looks alike, and is what one is paid under: not a secret.
    for start, end in find_references(text):
        parts += _mask_accounts(text[at:start]), text[start:end]
        at = end
    return "".join([*parts, _mask_accounts(text[at:])])


def _mask_accounts(text: str) -> str:
    return _IBAN_SHAPE.sub(lambda match: _mask_account(match[0]), mask_ibans(text))


def _mask_account(found: str) -> str:
    bare = "".join(character for character in found if character.isalnum())
    return f"{bare[:2].upper()}•• •••• {bare[-4:].upper()}"


def _card_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where card numbers stand; the text is folded one character for one."""
    if len(text) < DIGITS_MIN:
        return
    folded = text if text.isascii() else "".join(_fold(character) for character in text)
    if not DIGIT_RUN.search(folded):
        return
    # The hexadecimal of a UUID is nobody's card, nor is what proves itself something else.
    spared = blank_proven(_UUID.sub(_blank, folded))
    yield from find_cards(spared)


def _fold(character: str) -> str:
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    return " " if category == "Zs" else "-" if category == "Pd" else character


def _blank(match: re.Match[str]) -> str:
    return "#" * len(match.group())
