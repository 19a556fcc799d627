"""
Mask bank accounts and card numbers in text, however they are written (docs/adr/0144).

Whatever stands between the characters of one, blanks or dashes, also as an address or JSON spells
them, it is found by its check digits; so ids and times stay readable. Each step reads once.
"""

import re
import string
from collections.abc import Iterator
from typing import Final

from apps.core.cards import DIGITS_MAX, find_cards_of_run, is_right
from apps.core.ibans import GAP, find_end, find_ibans

_DIGIT: Final = re.compile(r"[0-9]|[^\x00-\x7f]")
# One that begins in the middle of a word is a part of an id.
_RUN: Final = re.compile(rf"(?<![0-9A-Za-z])[0-9](?:{GAP}[0-9]){{12,}}+")
_UUID: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9A-Za-z])", re.IGNORECASE
)
_ADDRESS: Final = re.compile(
    r"""
      (?<![0-9A-Za-z:])
      (?: (?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4} | (?:[0-9a-f]{1,4}:){4,7}:[0-9a-f:]{0,20} )
      (?![0-9A-Za-z:])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ADDRESS_COLONS_MIN: Final = 5
_WIDE: Final = "\uff0e" + "".join(map(chr, [*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]))
# Digits and blanks of other scripts, dashes, and what takes no room.
_FOREIGN: Final = re.compile(
    rf"(?![\x00-\x7f])[\d\s{_WIDE}\u00ad\u058a\u05be\u1806\u200b-\u200f\u2010-\u2015\u202a-\u202e"
    r"\u2060-\u2064\u2212\u2e3a\u2e3b\u3030\ufe58\ufe63\ufeff\uff0d]"
)
# What is no letter and no digit, as addresses (RFC 3986) and JSON or Python spell it, and whatever
# is not of ASCII; also as an address has it within another one, where each `%` is `%25`. What may
# be a percent sign before digits of the number is one, unless they spell what people put between.
_ESCAPED: Final = re.compile(
    r"""
      %(?:25){1,9}(?:0[9AD]|2[0BCDEF]|3A|5F)
    | %(?:25){0,9}[C-F][0-9A-F](?:%(?:25){0,9}[89AB][0-9A-F]){1,3}
    | %(?:[012][0-9A-F]|3[A-F]|40|5[B-F]|60|7[B-F])
    | (?<!\\)\\++(?-i:u(?i:[0-9A-F]{4})|x(?i:[0-9A-F]{2})|[bfnrtv])
    """,
    re.VERBOSE | re.IGNORECASE,
)
# An escape whose last characters may be the first ones of an IBAN.
_IN_ESCAPE: Final = re.compile(r"%(?:25){0,9}[0-9A-F][A-F]|\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})")
_HEX_LETTERS: Final = frozenset("ABCDEF")
# As far as an IBAN reaches that is written with escapes between its groups.
_HIDDEN_MAX: Final = 400
# Of no scheme that we know, but written as a card number is and right: unless it may be a time.
_PLAIN: Final = re.compile(rf"(?!1|20)[0-9](?:[ -]?[0-9]){{12,{DIGITS_MAX - 1}}}")


def mask_numbers(text: str) -> str:
    """Return the text with `[iban]` and `[pan]` for the bank accounts and card numbers in it."""
    if not _DIGIT.search(text):
        return text
    read = text if text.isascii() else _FOREIGN.sub(_fold_character, text)
    folded = _ESCAPED.sub(_blank, read) if "%" in read or "\\" in read else read
    hidden = list(_find_hidden(read, folded)) if folded is not read else []
    if not (hidden or _RUN.search(folded) or next(find_ibans(folded), None)):
        return text
    # An id's digits are nobody's.
    folded = _UUID.sub(_cross_out, folded)
    ibans = _apart(hidden, list(find_ibans(folded)))
    # What is in one is in no card number.
    folded = _replace(folded, [(start, end, "#" * (end - start)) for start, end in ibans])
    # Nor are those of an address of the internet.
    if folded.count(":") >= _ADDRESS_COLONS_MIN:
        folded = _ADDRESS.sub(_cross_out, folded)
    cards = [span for run in _RUN.finditer(folded) for span in _cards(run)]
    masks = {"[iban]": ibans, "[pan]": cards}
    return _replace(text, sorted((*span, mask) for mask, spans in masks.items() for span in spans))


def _replace(text: str, found: list[tuple[int, int, str]]) -> str:
    kept, at = [], 0
    for start, end, mask in found:
        kept += [text[at:start], mask]
        at = end
    return "".join([*kept, text[at:]])


def _cards(run: re.Match[str]) -> Iterator[tuple[int, int]]:
    written = run[0]
    if run.string[run.end() : run.end() + 1].isalnum():
        # The last of its groups begins a word: a time, or an id.
        written = written.rstrip(string.digits).rstrip(" -")
    if _PLAIN.fullmatch(written) and is_right(re.sub(r"[ -]", "", written)):
        yield run.start(), run.start() + len(written)
    else:
        yield from find_cards_of_run(written, run.start())


def _find_hidden(read: str, folded: str) -> Iterator[tuple[int, int]]:
    """
    Yield where IBANs stand whose first letters, with what is before them, may spell an escape.

    As in `%3AE07...`: a colon before E07, or what ends with 3 before an account of the Emirates.
    """
    at = 0
    for head in _IN_ESCAPE.finditer(read):
        behind = min(head.end() + _HIDDEN_MAX, len(read))
        for start in range(max(head.start() + 1, at), head.end()):
            if read[start] not in _HEX_LETTERS:
                continue
            end = find_end(read[start : head.end()] + folded[head.end() : behind])
            if end is not None:
                at = start + end
                yield start, at
                break


def _apart(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return all of these, in order, those left out that begin in one before them."""
    kept: list[tuple[int, int]] = []
    for span in sorted(some + others):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


def _fold_character(match: re.Match[str]) -> str:
    character = match[0]
    if character.isdecimal():
        return str(int(character))
    if character in _WIDE:
        return chr(ord(character) - 0xFEE0)
    return " "


def _blank(match: re.Match[str]) -> str:
    # One thing between two digits, however long it is to spell.
    return " ".ljust(len(match[0]), "\x00")


def _cross_out(match: re.Match[str]) -> str:
    return "#" * len(match[0])
