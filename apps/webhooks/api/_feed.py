"""The feed's cursor: a place among the organization's events, opaque to whoever holds it."""

import base64
import binascii
from typing import Final

from apps.core.api.problems import ApiProblem
from apps.webhooks.queries import FeedPlace

_NUMBER_BYTES: Final = 8


def write_cursor(place: FeedPlace) -> str:
    """Return the cursor that goes on from a place."""
    numbers = (place.position, place.ordinal)
    raw = b"".join(number.to_bytes(_NUMBER_BYTES, "big") for number in numbers)
    return base64.urlsafe_b64encode(raw).decode("ascii")


def read_cursor(text: str) -> FeedPlace:
    """
    Return the place of a cursor.

    :raises ApiProblem: `invalid_cursor` (400)
    """
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    numbers = raw[:_NUMBER_BYTES], raw[_NUMBER_BYTES:]
    # The upper half of the range is no bigint, and no position either.
    if len(raw) != 2 * _NUMBER_BYTES or raw[0] >= 0x80 or raw[_NUMBER_BYTES] >= 0x80:  # noqa: PLR2004  (the sign bit)
        raise ApiProblem("invalid_cursor", "This cursor was not made for this list.")
    position, ordinal = (int.from_bytes(number, "big") for number in numbers)
    return FeedPlace(position=position, ordinal=ordinal)
