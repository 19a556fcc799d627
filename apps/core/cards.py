"""Card numbers as they stand in text: in groups of their own, with a check digit (ISO/IEC 7812)."""

import re
from collections.abc import Iterator
from typing import Final

DIGITS_MIN, DIGITS_MAX = 13, 19
DIGIT_RUN: Final = re.compile(r"\d(?:[ -]?\d){12,}", re.ASCII)
_CARD: Final = re.compile(
    r"""
      4\d{12} | 4\d{15} | 4\d{18}                                      # Visa
    | 5[1-5]\d{14}                                                      # Mastercard
    | (?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}             # Mastercard
    | 3[47]\d{13}                                                       # American Express
    | (?:30[0-5]|36\d|3[89]\d)\d{11,16}                                 # Diners Club
    | (?:6011|64[4-9]\d|65\d\d|62\d\d)\d{12,15}                         # Discover, UnionPay
    | 35(?:2[89]|[3-8]\d)\d{12,15}                                      # JCB
    | (?:50\d\d|5[6-8]\d\d|6304|6390|67\d\d)\d{9,15}                    # Maestro
    | 220[0-4]\d{12,15}                                                 # Mir
    | 9792\d{12}                                                        # Troy
    | (?:60(?:69|7\d|8[0-5])|81[7-9]\d|820[01])\d{12}                   # RuPay
    | 63(?:34|6\d|[7-9]\d)\d{12,15}                                     # InterPayment and others
    | (?:8600|9860|9704)\d{12,15}                                       # Uzcard, Humo, Napas
    """,
    re.VERBOSE | re.ASCII,
)
_GROUP: Final = re.compile(r"\d+")


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    """Yield where card numbers stand, from the first on."""
    for run in DIGIT_RUN.finditer(text):
        yield from find_cards_of_run(run[0], run.start())


def find_cards_of_run(run: str, start: int) -> Iterator[tuple[int, int]]:
    """
    Yield the cards among the whole groups of a run, which starts there in its text.

    Groups are kept whole: a card is written in groups of its own, and looking inside every long
    number would find one in each tenth. Of several that share a group any may be the one, as where
    a number stands before it by which others seem to be one: so all of them are one place.
    """
    groups = [(start + found.start(), found[0]) for found in _GROUP.finditer(run)]
    found_start, found_end = 0, 0
    for first, (at, _group) in enumerate(groups):
        end = _last_end(groups, first)
        if end is None:
            continue
        if found_end and at >= found_end:
            yield found_start, found_end
            found_end = 0
        if not found_end:
            found_start = at
        found_end = max(found_end, end)
    if found_end:
        yield found_start, found_end


def _last_end(groups: list[tuple[int, str]], first: int) -> int | None:
    """Return where the longest card ends that begins with a group, or None."""
    digits, end = "", None
    for at, group in groups[first : first + DIGITS_MAX]:
        digits += group
        if len(digits) > DIGITS_MAX:
            break
        if len(digits) >= DIGITS_MIN and _CARD.fullmatch(digits) and is_right(digits):
            end = at + len(group)
    return end


def is_right(digits: str) -> bool:
    """Say whether the last of these ASCII digits is the check digit of the others."""
    total = sum(int(d) for d in digits[-1::-2])
    return (total + sum(int(d) * 2 - 9 * (d > "4") for d in digits[-2::-2])) % 10 == 0
