"""
Ids: UUIDv7 made by the application, printed as ``po_<26 base32>``.

UUIDv7 is RFC 9562, section 5.7; the text form is Crockford's base32 in lower case, as TypeID has
it, so that printed ids sort like the ids themselves.

A transfer reads, makes and prints half a dozen of them, so each is a few steps of C: digits by
table three at a time, numbers by `int`, and no checks of `UUID` on what is a UUID by construction.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from uuid import UUID, SafeUUID

from apps.core.errors import InvalidInput, NotFound

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = [a + b for a in _DIGITS for b in _DIGITS]
_TRIPLES: Final = [a + b + c for a in _DIGITS for b in _DIGITS for c in _DIGITS]
_TEXT_LENGTH: Final = 26
# To the digits that `int` reads in base 32; all else, `int`'s own underscore, sign and space
# included, becomes what it refuses.
_TO_INT: Final = bytes(
    b"0123456789abcdefghijklmnopqrstuv"[_DIGITS.index(chr(code))] if chr(code) in _DIGITS else 0x21
    for code in range(256)
)
_BITS: Final = 128
_VERSION_AND_VARIANT: Final = 0x7 << 76 | 0b10 << 62

_make: Final = UUID.__new__
_set_int: Final = UUID.__dict__["int"].__set__
_set_is_safe: Final = UUID.__dict__["is_safe"].__set__
_UNKNOWN: Final = SafeUUID.unknown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = 3_600_000 << 80

_lock = threading.Lock()
_last_tick = 0


class MalformedId(InvalidInput):
    """The text is no id at all."""

    code = "malformed_id"


class WrongIdKind(NotFound):
    """The text is an id, of something else."""


def _uuid(number: int) -> UUID:
    # What UUID(int=number) does once it has looked at its other five arguments.
    made = _make(UUID)
    _set_int(made, number)
    _set_is_safe(made, _UNKNOWN)
    return made


def new_ids(count: int) -> list[UUID]:
    """Return ``count`` fresh UUIDv7, ascending within this process."""
    noise = memoryview(os.urandom(8 * count)).cast("Q")
    return [
        _uuid((tick >> 12) << 80 | (tick & 0xFFF) << 64 | _VERSION_AND_VARIANT | random >> 2)
        for tick, random in enumerate(noise, _take_ticks(count))
    ]


def new_id() -> UUID:
    """Return a fresh UUIDv7, greater than every one this process made before."""
    # As above: one alone is made for every request, in half the time.
    tick, random = _take_ticks(1), int.from_bytes(os.urandom(8))
    return _uuid((tick >> 12) << 80 | (tick & 0xFFF) << 64 | _VERSION_AND_VARIANT | random >> 2)


def _take_ticks(count: int) -> int:
    """Return the first of so many ticks that follow all before them in this process."""
    global _last_tick  # noqa: PLW0603  (the order within a process is state of the process)
    with _lock:
        now_ns = time.time_ns()
        # 48 bits of milliseconds and 12 bits of the fraction (RFC 9562, section 6.2, method 3).
        tick = ((now_ns // 1_000_000) << 12) | ((now_ns % 1_000_000) * 4096 // 1_000_000)
        first = max(tick, _last_tick + 1)
        _last_tick = first + count - 1
    return first


def first_id(instant: datetime) -> UUID:
    """Return what every id made at this instant or later is above, and every earlier one below."""
    return _uuid(((instant - _EPOCH) // timedelta(milliseconds=1)) << 80)


def an_hour_after(id_: UUID) -> UUID:
    """Return what every id made in the hour after this one is below."""
    return _uuid(id_.int + _HOUR)


def made_at(id_: UUID) -> datetime:
    """Return when this id was made, to the millisecond, by the clock of whoever made it."""
    return _EPOCH + timedelta(milliseconds=id_.int >> 80)


def encode_id(prefix: str, id_: UUID) -> str:
    """Return the printed form, such as ``po_01jf…`` (26 digits after the prefix)."""
    number = id_.int
    # 68 and 60 bits: shifts of short numbers are the cheaper ones.
    high, low = number >> 60, number & 0xFFF_FFFF_FFFF_FFFF
    return (
        f"{prefix}_{_PAIRS[high >> 60]}"
        f"{_TRIPLES[high >> 45 & 32767]}{_TRIPLES[high >> 30 & 32767]}"
        f"{_TRIPLES[high >> 15 & 32767]}{_TRIPLES[high & 32767]}"
        f"{_TRIPLES[low >> 45]}{_TRIPLES[low >> 30 & 32767]}"
        f"{_TRIPLES[low >> 15 & 32767]}{_TRIPLES[low & 32767]}"
    )


def encode_ids(prefix: str, ids: Iterable[UUID]) -> list[str]:
    """Return the printed form of many, in half the time for ids that were made together."""
    printed: list[str] = []
    begun, head = -1, ""
    for id_ in ids:
        number = id_.int
        # Eleven digits, of the time: neighbours have them in common.
        high = number >> 75
        if high != begun:
            begun = high
            head = (
                f"{prefix}_{_PAIRS[high >> 45]}"
                f"{_TRIPLES[high >> 30 & 32767]}{_TRIPLES[high >> 15 & 32767]}"
                f"{_TRIPLES[high & 32767]}"
            )
        low = number & 0xFFF_FFFF_FFFF_FFFF
        printed.append(
            f"{head}{_TRIPLES[number >> 60 & 32767]}"
            f"{_TRIPLES[low >> 45]}{_TRIPLES[low >> 30 & 32767]}"
            f"{_TRIPLES[low >> 15 & 32767]}{_TRIPLES[low & 32767]}"
        )
    return printed


def decode_id(prefix: str, text: object) -> UUID:
    """
    Return the id that ``text`` prints.

    :raises MalformedId: if it is no id of ours (400)
    :raises WrongIdKind: if it is an id of another kind (404)
    """
    if not isinstance(text, str):
        raise MalformedId("An id is a text.")
    found, _, digits = text.rpartition("_")
    if len(digits) != _TEXT_LENGTH or not found.isascii():
        raise MalformedId("This is not a well-formed id.")
    try:
        number = int(digits.encode("ascii").translate(_TO_INT), 32)
    # Both a letter outside ASCII and a digit that is none of ours.
    except ValueError:
        raise MalformedId("This is not a well-formed id.") from None
    if number >> _BITS:
        raise MalformedId("This is not a well-formed id.")
    if found != prefix:
        if not found:
            raise MalformedId("This is not a well-formed id.")
        raise WrongIdKind("No such resource.")
    return _uuid(number)


# What is named again and again, as the accounts of a busy book are: a few megabytes.
_OFTEN_MAX: Final = 16_384


@lru_cache(maxsize=_OFTEN_MAX)
def encode_often(prefix: str, number: int) -> str:
    """Return the printed form of the id of this integer, kept for the next time."""
    return encode_id(prefix, _uuid(number))


# As `decode_id`; what it raises is not kept.
decode_often: Final[Callable[[str, str], UUID]] = lru_cache(maxsize=_OFTEN_MAX)(decode_id)
