"""The feed's cursor: a place among the organization's events, opaque to whoever holds it."""

import base64
import binascii
from typing import Final

from apps.core.api.problems import ApiProblem
from apps.core.models import OutboxEvent
from apps.webhooks.queries import BATCH_END, FeedPlace

_NUMBER_BYTES: Final = 8


def write_cursor(event: OutboxEvent, *, following: OutboxEvent | None, ascending: bool) -> str:
    """
    Return the cursor that goes on after this event, the last of a page, with what is `following`.

    A follower's stands behind the whole batch if the page ends with it: that is still a place in
    the feed once the batch is no longer kept.
    """
    position = _position(event)
    is_behind = ascending and (following is None or _position(following) != position)
    numbers = (position, BATCH_END if is_behind else event.ordinal)
    raw = b"".join(number.to_bytes(_NUMBER_BYTES, "big") for number in numbers)
    return base64.urlsafe_b64encode(raw).decode("ascii")


def _position(event: OutboxEvent) -> int:
    position: int = event.position  # type: ignore[attr-defined]  # selected beside the columns
    return position


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
