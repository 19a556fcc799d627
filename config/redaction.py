"""
Mask what must not leave the process in a log line or an error report, by its shape.

Strangers choose much of what is logged: a path that does not exist is a line. So no pattern may
read a text again from each of its characters, and what is longer than a bound is cut (ADR 0142).
"""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Final

from config.numbers import mask_numbers

# Takes every word, address or not: what goes on behind the word reads no character a third time.
_EMAIL: Final = re.compile(r"[\w.+-]++((?:@|%40)[\w-]+(?:\.[\w-]+)+)?")
_KEY: Final = re.compile(
    r"kassa_(?:live|test)_[0-9A-Za-z]+(?:_[0-9A-Za-z]+)?|whsec_[0-9A-Za-z+/=]+"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic|token)\s+[\w.~+/=-]{8,}")
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@]*):[^\s@/]+@")
SECRET_NAMES: Final = re.compile(
    r"(?i)password|secret|token|authorization|cookie|api_?key(?!_id$)|pepper|private|iban|account_?number|e_?mail"
)
MASK: Final = "[masked]"

CUT: Final = "[cut]"
# In characters; a traceback has more to say than any value.
_TEXT_MAX: Final = 2_048
_TRACEBACK: Final = "exception"
_TRACEBACK_MAX: Final = 16_384
_TRACEBACK_HEAD: Final = 4_096
_TRACEBACK_READ_MAX: Final = 262_144
_ITEMS_MAX: Final = 256
# No bank account and no card number is longer, what stands between its characters included, as
# long as that has a blank in it; without one all of it is a word.
_SPACED_MAX: Final = 640


def redact_text(text: str, *, length_max: int = _TEXT_MAX) -> str:
    """
    Return the text with bank accounts, card numbers, addresses, keys and passwords masked.

    One that is longer loses its end. What stands at the cut may be the half of something that only
    the whole would show to be secret, so it is dropped too, back to where a word ends.
    """
    if len(text) <= length_max:
        return _mask(text)
    kept = _mask(text[: length_max + _SPACED_MAX])[:-_SPACED_MAX]
    # Whatever is longer than that has no blank in it.
    *before, _half = kept[: length_max - len(f" {CUT}")].rsplit(maxsplit=1) or [""]
    return " ".join([*before, CUT])


def _mask(text: str) -> str:
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    if "kassa_" in text or "whsec_" in text:
        text = _KEY.sub("[key]", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    if "@" in text or "%40" in text:
        text = _EMAIL.sub(lambda found: "[email]" if found[1] else found[0], text)
    return mask_numbers(text)


def redact(value: object, *, name: str = "") -> object:
    """
    Return the value fit for a log: numbers as they are, containers walked, all else as masked text.

    Whatever stands under a telling name is masked whole, whatever its shape. Texts are cut, and so
    is what holds very many.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if name and SECRET_NAMES.search(name):
        return MASK
    if isinstance(value, Mapping):
        items = islice(value.items(), _ITEMS_MAX)
        return {redact_text(str(key)): redact(item, name=str(key)) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        kept = [redact(item) for item in islice(value, _ITEMS_MAX)]
        return kept if len(value) <= _ITEMS_MAX else [*kept, CUT]
    return _redact_traceback(str(value)) if name == _TRACEBACK else redact_text(str(value))


def _redact_traceback(text: str) -> str:
    """Return it without its middle, if it is long: what went wrong is said at its end."""
    if len(text) > _TRACEBACK_READ_MAX:
        return redact_text(text, length_max=_TRACEBACK_MAX)
    # Masked whole before it is cut, so nothing secret is cut in half.
    masked = _mask(text)
    if len(masked) <= _TRACEBACK_MAX:
        return masked
    return f"{masked[:_TRACEBACK_HEAD]} {CUT} {masked[_TRACEBACK_HEAD - _TRACEBACK_MAX :]}"
