"""
Creditor references (ISO 11649) in what a payer wrote (payments.md, section 2).

The structured field is read first; free text only where it holds no valid one. A reference in free
text may be broken by spaces and line ends, so a place can be read in more than one way; only
readings whose check digits hold are kept.
"""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from stdnum import iso11649
from stdnum.iso7064 import mod_97_10

LENGTH_MIN: Final = 5
LENGTH_MAX: Final = 25
BODY_DIGITS: Final = 13

_SHAPE: Final = re.compile(r"\ARF\d{2}[0-9A-Z]{1,21}\Z", re.ASCII)
_START: Final = re.compile(r"RF(?=\d{2})", re.ASCII)
# One more than a reference has says that this is none; the rest of a longer one is not looked at.
_PIECE: Final = re.compile(rf"[0-9A-Z]{{1,{LENGTH_MAX + 1}}}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The reference a line carries, or why there is none: `none`, `unknown` or `ambiguous`."""

    reference: str | None = None
    reason: str = ""


def is_valid(reference: str) -> bool:
    """Say whether the text, without spaces and in capitals, is a reference that proves itself."""
    return _SHAPE.match(reference) is not None and iso11649.is_valid(reference)


def make_reference(body: int) -> str:
    """Return the reference with this number as its body, digits only so that it types easily."""
    digits = f"{body:0{BODY_DIGITS}d}"
    return f"RF{mod_97_10.calc_check_digits(digits + 'RF')}{digits}"


def places(structured: Iterable[str], texts: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return for each place with a reference the ways it can be read; structured fields win."""
    compact = ("".join(field.split()).upper() for field in structured)
    valid = tuple(dict.fromkeys(field for field in compact if is_valid(field)))
    if valid:
        return tuple((reference,) for reference in valid)
    found = dict.fromkeys(_free_text(texts))
    return tuple(found)


def choose(found: Iterable[tuple[str, ...]], known: Container[str]) -> Found:
    """
    Return the one reference of ours among the places read.

    Two places with different valid references are `ambiguous`, whoever's they are.
    """
    distinct = list(dict.fromkeys(found))
    if not distinct:
        return Found(reason="none")
    if len(distinct) > 1:
        return Found(reason="ambiguous")
    ours = [reading for reading in distinct[0] if reading in known]
    if len(ours) > 1:
        return Found(reason="ambiguous")
    return Found(reference=ours[0]) if ours else Found(reason="unknown")


def _free_text(texts: Iterable[str]) -> Iterable[tuple[str, ...]]:
    # Lines end with a mark of their own: a bank cuts them at 35 characters, also inside a word.
    joined = "\n".join(texts).upper()
    for start in _START.finditer(joined):
        readings = tuple(_readings(joined, start.start()))
        if readings:
            yield readings


def _readings(joined: str, start: int) -> Iterable[str]:
    """Yield each valid reference that begins here and ends where a written piece ends."""
    reading, at = "", start
    while (piece := _PIECE.match(joined, at)) and len(reading) < LENGTH_MAX:
        reading += piece.group()
        if LENGTH_MIN <= len(reading) <= LENGTH_MAX and is_valid(reading):
            yield reading
        at = piece.end()
        # Blanks, line ends and the separators people put between groups.
        while at < len(joined) and joined[at] in " \t\n\r-.":
            at += 1
        if at == piece.end():
            return
