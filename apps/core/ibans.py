"""IBANs as they stand in text: electronic, or printed in groups of four (ISO 13616)."""

import re
from functools import cache
from typing import Final

from schwifty import registry
from schwifty.domain import IBANSpec
from schwifty.exceptions import InvalidCountryCode

_HEAD: Final = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}")
# A card number that is written with dashes may begin in what looks like an IBAN's last group.
_GOES_ON: Final = re.compile(r"-?[0-9A-Za-z]")
_GROUP: Final = 4


def blank_ibans(text: str) -> str:
    """Return the text, as long as it was, with `#` for each character of a valid IBAN."""
    kept, at = [], 0
    for head in _HEAD.finditer(text):
        # What begins inside one that was found is a part of it.
        if head.start() >= at and (end := _end(text, head.start())) is not None:
            kept += [text[at : head.start()], "#" * (end - head.start())]
            at = end
    return "".join([*kept, text[at:]])


def _end(text: str, start: int) -> int | None:
    """Return where the IBAN ends that starts there, or None: its country says how long it is."""
    spec = _spec(text[start : start + 2].upper())
    if spec is None:
        return None
    length = spec.iban_length
    for end in (start + length, start + length + (length - 1) // _GROUP):
        written = text[start:end]
        compact = written.replace(" ", "")
        if (
            len(compact) == length
            and written in {compact, _grouped(compact)}
            and not _GOES_ON.match(text, end)
            and _is_valid(compact.upper(), spec)
        ):
            return end
    return None


@cache
def _spec(country: str) -> IBANSpec | None:
    try:
        spec = registry.get_iban_spec(country)
    except InvalidCountryCode:
        return None
    # The library knows forms too that countries outside the registry are said to use.
    return None if spec.aspirational else spec


def _grouped(compact: str) -> str:
    return " ".join(compact[at : at + _GROUP] for at in range(0, len(compact), _GROUP))


def _is_valid(compact: str, spec: IBANSpec) -> bool:
    if not compact.isascii() or not spec.regex.fullmatch(compact[4:]):
        return False
    # ISO 7064, mod 97-10: computed anew, since 00, 01 and 99 would leave the right rest as well.
    number = int("".join(str(int(c, 36)) for c in compact[4:] + compact[:2]))
    return 98 - number * 100 % 97 == int(compact[2:4])
