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
    """,
    re.VERBOSE | re.ASCII,
)


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    """Yield where card numbers stand, from the first on."""
    for run in DIGIT_RUN.finditer(text):
        yield from _cards_in_run(run)


def _cards_in_run(run: re.Match[str]) -> Iterator[tuple[int, int]]:
    """
    Yield the cards among the whole groups of a run.

    Groups are kept whole: a card is written in groups of its own, and looking inside every long
    number would find one in each tenth.
    """
    groups = [(found.start(), found.group()) for found in re.finditer(r"\d+", run.group())]
    first = 0
    while first < len(groups):
        digits, taken = "", first
        for position in range(first, len(groups)):
            digits += groups[position][1]
            if len(digits) > DIGITS_MAX:
                break
            if len(digits) >= DIGITS_MIN and _CARD.fullmatch(digits) and _luhn(digits):
                start, group = groups[position]
                yield run.start() + groups[first][0], run.start() + start + len(group)
                taken = position
                break
        first = taken + 1


def _luhn(digits: str) -> bool:
    total = sum(int(d) for d in digits[-1::-2])
    return (total + sum(int(d) * 2 - 9 * (d > "4") for d in digits[-2::-2])) % 10 == 0
