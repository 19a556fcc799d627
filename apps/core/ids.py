"""
Ids: UUIDv7 made by the application, printed as ``po_<26 base32>``.

UUIDv7 is RFC 9562, section 5.7; the text form is Crockford's base32 in lower case, as TypeID has
it, so that printed ids sort like the ids themselves.
"""

import base64
import binascii
import os
import threading
import time
from typing import Final
from uuid import UUID

from apps.core.errors import InvalidInput, NotFound

_RFC4648: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD: Final = b"0123456789abcdefghjkmnpqrstvwxyz"
_TO_CROCKFORD: Final = bytes.maketrans(_RFC4648, _CROCKFORD)
_FROM_CROCKFORD: Final = bytes.maketrans(_CROCKFORD, _RFC4648)
_ALPHABET: Final = frozenset(_CROCKFORD.decode())
_TEXT_LENGTH: Final = 26
# 16 bytes are 25.6 base32 digits; four zero bytes in front make it whole groups of five bytes.
_PAD: Final = b"\0\0\0\0"
_PAD_DIGITS: Final = 6

_lock = threading.Lock()
_last_tick = 0


class MalformedId(InvalidInput):
    """The text is no id at all."""

    code = "malformed_id"


class WrongIdKind(NotFound):
    """The text is an id, of something else."""


def new_ids(count: int) -> list[UUID]:
    """Return ``count`` fresh UUIDv7, ascending within this process."""
    global _last_tick  # noqa: PLW0603  (the order within a process is state of the process)
    with _lock:
        now_ns = time.time_ns()
        # 48 bits of milliseconds and 12 bits of the fraction (RFC 9562, section 6.2, method 3).
        tick = ((now_ns // 1_000_000) << 12) | ((now_ns % 1_000_000) * 4096 // 1_000_000)
        first = max(tick, _last_tick + 1)
        _last_tick = first + count - 1
    noise = os.urandom(8 * count)
    return [
        UUID(int=_layout(first + i, int.from_bytes(noise[8 * i : 8 * i + 8], "big")))
        for i in range(count)
    ]


def _layout(tick: int, noise: int) -> int:
    milliseconds, fraction = tick >> 12, tick & 0xFFF
    return milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | noise >> 2


def new_id() -> UUID:
    """Return a fresh UUIDv7, greater than every one this process made before."""
    return new_ids(1)[0]


def encode_id(prefix: str, id_: UUID) -> str:
    """Return the printed form, such as ``po_01jf…`` (26 digits after the prefix)."""
    digits = base64.b32encode(_PAD + id_.bytes)[_PAD_DIGITS:].translate(_TO_CROCKFORD)
    return f"{prefix}_{digits.decode('ascii')}"


def decode_id(prefix: str, text: object) -> UUID:
    """
    Return the id that ``text`` prints.

    :raises MalformedId: if it is no id of ours (400)
    :raises WrongIdKind: if it is an id of another kind (404)
    """
    if not isinstance(text, str):
        raise MalformedId("An id is a text.")
    found, _, digits = text.rpartition("_")
    if len(digits) != _TEXT_LENGTH or not found.isascii() or not _ALPHABET.issuperset(digits):
        raise MalformedId("This is not a well-formed id.")
    try:
        raw = base64.b32decode(b"A" * _PAD_DIGITS + digits.encode().translate(_FROM_CROCKFORD))
    except binascii.Error:  # pragma: no cover  (length and alphabet are checked above)
        raise MalformedId("This is not a well-formed id.") from None
    if not raw.startswith(_PAD):
        raise MalformedId("This is not a well-formed id.")
    if found != prefix:
        raise WrongIdKind("No such resource.")
    return UUID(bytes=raw[len(_PAD) :])
