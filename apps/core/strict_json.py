"""
Read JSON from strangers, and refuse whatever two readers could understand differently.

This runs before anything else on the hottest route, so the common case is one pass of the C
scanner: the bounds that protect that pass (depth, number of values) are counted on the text
beforehand, and the place of a fault is only searched for once a fault is known.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

DEPTH_MAX: Final = 20
NODES_MAX: Final = 10_000
BYTES_MAX: Final = 1024 * 1024
DIGITS_MAX: Final = 30

# A fraction or an exponent makes a number longer than its digits; nothing we read needs more.
_NUMBER_LENGTH_MAX: Final = 40
# Possessive, and the closing quote optional: an unterminated string is read once, not once
# for each quote in it.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_NOT_A_BRACKET: Final = re.compile(r"[^\[\]{}]++")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TO_SQUARE: Final = str.maketrans("{}", "[]")


class JsonRefused(ValueError):
    """The text is not JSON we accept; `pointer` (RFC 6901) says where, as far as it is known."""

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


class JsonTooLarge(JsonRefused):
    """The text has more bytes than its route allows."""


class JsonNotUtf8(JsonRefused):
    """The bytes are not UTF-8."""


def parse(body: bytes, *, bytes_max: int = BYTES_MAX, nodes_max: int = NODES_MAX) -> Any:  # noqa: ANN401 - JSON is any
    """
    Return the value of a JSON text.

    Bounds are inclusive. Numbers with a fraction or an exponent come back as float, so that a
    field which wants an integer can tell `1.0` from `1`; objects keep their order.

    :raises JsonTooLarge: if there are more than `bytes_max` bytes
    :raises JsonNotUtf8: if the bytes are not UTF-8
    :raises JsonRefused: if the text is not JSON, or is JSON that readers disagree about: a byte
        order mark, a key twice, more than 20 levels, more than `nodes_max` values, a number that
        is not finite or has more than 30 digits, a lone surrogate, a NUL, trailing data
    """
    if len(body) > bytes_max:
        raise JsonTooLarge(f"The body is longer than {bytes_max} bytes.")
    try:
        text = body.decode("utf-8", "strict")
    except UnicodeDecodeError as fault:
        raise JsonNotUtf8(f"The body is not UTF-8 at byte {fault.start}.") from None
    if text.startswith("\ufeff"):
        raise JsonRefused("The body starts with a byte order mark.")

    _refuse_size(text, nodes_max)
    try:
        value = _strict.decode(text)
    except json.JSONDecodeError as fault:
        raise JsonRefused(f"{fault.msg} (line {fault.lineno}, column {fault.colno}).") from None
    except _Suspect:
        return _refuse(_marking.decode(text))
    # A surrogate or a NUL inside a string can only have come from an escape: raw ones are
    # refused by the UTF-8 decoder and by the scanner.
    if "\\u" in text:
        _refuse_text(value)
    return value


def _refuse_size(text: str, nodes_max: int) -> None:
    """Refuse depth and breadth before the recursive scanner sees them."""
    opened = text.count("[") + text.count("{")
    if opened <= DEPTH_MAX and opened + text.count(",") < nodes_max:
        return
    bare = _STRING.sub("", text)
    if bare.count("[") + bare.count("{") + bare.count(",") >= nodes_max:
        raise JsonRefused(f"The body holds more than {nodes_max} values.")

    brackets = _NOT_A_BRACKET.sub("", bare).translate(_TO_SQUARE)
    # Each pass takes away exactly one level, the innermost.
    for _level in range(DEPTH_MAX):
        brackets = brackets.replace("[]", "")
    # What never closes is left over: a few are the scanner's to explain, many are depth.
    if "[]" in brackets or brackets.count("[") > DEPTH_MAX:
        raise JsonRefused(f"The body is nested more than {DEPTH_MAX} levels deep.")


class _Suspect(Exception):
    """The quick pass met a fault whose place is not known yet."""


class _Fault:
    """Stands in the tree of the second pass where the fault is."""

    def __init__(self, detail: str, key: str | None = None) -> None:
        self.detail = detail
        self.key = key


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Suspect
    return found


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX and len(digits.lstrip("-")) > DIGITS_MAX:
        raise _Suspect
    return int(digits)


def _fraction(literal: str) -> float:
    value = float(literal)
    if len(literal) > _NUMBER_LENGTH_MAX or not math.isfinite(value):
        raise _Suspect
    return value


def _constant(_name: str) -> NoReturn:
    raise _Suspect


def _marked(read: Callable[[str], Any], detail: str) -> Callable[[str], Any]:
    def read_or_mark(literal: str) -> Any:  # noqa: ANN401 - a number or the mark of a fault
        try:
            return read(literal)
        except _Suspect:
            return _Fault(detail)

    return read_or_mark


def _marked_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = _Fault("This key stands here twice.", key) if key in found else value
    return found


_strict: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_fraction,
    parse_constant=_constant,
)
_marking: Final = json.JSONDecoder(
    object_pairs_hook=_marked_object,
    parse_int=_marked(_integer, f"A number has at most {DIGITS_MAX} digits."),
    parse_float=_marked(_fraction, "This number is too long, or not finite."),
    parse_constant=_marked(_constant, "NaN and Infinity are not JSON."),
)


def _refuse(tree: Any) -> NoReturn:  # noqa: ANN401 - JSON is any
    for pointer, value in _walk(tree, ""):
        if isinstance(value, _Fault):
            raise JsonRefused(value.detail, pointer=pointer)
    msg = "The two passes of the parser disagree."
    raise AssertionError(msg)


def _refuse_text(tree: Any) -> None:  # noqa: ANN401 - JSON is any
    for pointer, value in _walk(tree, ""):
        if isinstance(value, dict):
            for key in value:
                _refuse_string(key, pointer)
        elif isinstance(value, str):
            _refuse_string(value, pointer)


def _refuse_string(value: str, pointer: str) -> None:
    if "\x00" in value:
        raise JsonRefused("A string holds a NUL character.", pointer=pointer)
    if _SURROGATE.search(value):
        raise JsonRefused("A string holds half of a surrogate pair.", pointer=pointer)


def _walk(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON is any
    """Yield each value with its pointer, parents first; as deep as the bound on depth."""
    yield pointer, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _walk(child, f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for position, child in enumerate(value):
            yield from _walk(child, f"{pointer}/{position}")


def escape(key: str) -> str:
    """Return a key as one step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
