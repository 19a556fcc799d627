"""
IBANs in text, however they are written (ISO 13616): what a mask looks for.

Its country says how long one is and where it has letters, and two check digits prove it. What is
let through as proven is written more strictly (`proven`, docs/adr/0144).
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from schwifty import registry
from schwifty.domain import IBANSpec
from schwifty.exceptions import InvalidCountryCode

# What may stand between two characters of a number that somebody wrote in groups: as many as an
# address needs for one blank of another script, each with NULs behind it where whoever looks has
# written it over something longer. Dots, and commas, slashes and colons without a blank, part
# groups of four and more only: shorter ones are addresses of the internet, amounts, days and times.
GAP: Final = r"(?:[\s_+-]\x00*+|(?<=[0-9A-Za-z]{4})(?:\.|[,/:](?=[0-9A-Za-z]))){0,9}+"
# In capitals it is seen in the middle of a word too: banks put letters and digits before it.
# In small letters no underscore: the kind of an id of ours stands before one.
_HEAD: Final = re.compile(
    rf"(?:[A-Z]{GAP}[A-Z]{GAP}|(?<![0-9A-Za-z])[A-Za-z]{{2}}[\s+-]{{0,9}}+)[0-9]{GAP}[0-9]"
)
_BETWEEN: Final = re.compile(r"[^0-9A-Za-z]")
_HEAD_LENGTH: Final = 4


def find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where IBANs stand, from the first on; what only looks like one hides none behind it."""
    at = 0
    for head in _HEAD.finditer(text):
        start = head.start()
        spec = spec_of(_BETWEEN.sub("", head[0])[:2].upper()) if start >= at else None
        if spec and (end := _end(text, start, head.end(), spec)) is not None:
            yield start, end
            at = end


def find_end(text: str) -> int | None:
    """Return where the IBAN ends with which a text begins; None if it begins with none."""
    head = _HEAD.match(text)
    spec = head and spec_of(_BETWEEN.sub("", head[0])[:2].upper())
    return _end(text, 0, head.end(), spec) if head and spec else None


def _end(text: str, start: int, behind: int, spec: IBANSpec) -> int | None:
    rest = _rest(spec.iban_length - _HEAD_LENGTH).match(text, behind)
    if rest is None:
        return None
    written = _BETWEEN.sub("", text[start : rest.end()])
    compact = written.upper()
    if not is_valid(compact, spec):
        return None
    if written != compact and (
        text[start - 1 : start].isalnum() or text[rest.end() : rest.end() + 1].isalnum()
    ):
        return None
    return rest.end()


@cache
def _rest(length: int) -> re.Pattern[str]:
    return re.compile(rf"(?:{GAP}[0-9A-Za-z]){{{length}}}")


@cache
def spec_of(country: str) -> IBANSpec | None:
    """Return the form of a country's IBANs, by its code in capitals."""
    try:
        return registry.get_iban_spec(country)
    except InvalidCountryCode:
        return None


def is_valid(compact: str, spec: IBANSpec) -> bool:
    """Say whether an IBAN in capitals and without blanks has its country's form and is right."""
    if not compact.isascii() or not spec.regex.fullmatch(compact[4:]):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1
