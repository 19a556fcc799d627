"""What a provider's message says of itself, and which way an event may move an object."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final

from apps.core import strict_json
from apps.webhooks.rules.verification import Envelope

EVENT_ID_LENGTH_MAX: Final = 255
TYPE_LENGTH_MAX: Final = 100
KEY_LENGTH_MAX: Final = 255
# For so long an event waits for an object that nobody knows; then it waits for a person.
PARKED_MAX: Final = timedelta(hours=72)
# The type of an authentic message that we could not read: it is kept, and nothing handles it.
UNREADABLE: Final = "unreadable"

_LOOK_AGAIN_SECONDS: Final = (1.0, 3600.0)
_TYPE: Final = re.compile(rf"[0-9A-Za-z_.:-]{{1,{TYPE_LENGTH_MAX}}}", re.ASCII)
_EVENT_ID: Final = re.compile(rf"[!-~]{{1,{EVENT_ID_LENGTH_MAX}}}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    What a message says of itself: ids and a type, and none of its content.

    `object_key` is what its handler finds the object by; empty if it is about none. Without an
    event id a message is known by its bytes.
    """

    type: str
    object_key: str = ""
    event_id: str = ""


type Reader = Callable[[Envelope, bytes], Reading]


def read_standard(envelope: Envelope, body: bytes) -> Reading:
    """
    Read a message of the standard's own form: a `type`, and `data` with the `id` it is about.

    :raises ValueError: if it is not of that form
    """
    match strict_json.parse(body):
        case {"type": str(type_), "data": {"id": str(key)}}:
            return Reading(type=type_, object_key=key, event_id=envelope.message_id)
        case {"type": str(type_)}:
            return Reading(type=type_, event_id=envelope.message_id)
    raise ValueError("A message has a type.")


def identify(read: Reader, *, envelope: Envelope, body: bytes) -> Reading:
    """
    Read an authentic message, so that it can be kept whatever it says.

    One that its reader does not understand is `UNREADABLE`, about nothing: sending it again would
    not make it better, and only people can say what it is.
    """
    try:
        found = read(envelope, body)
    except ValueError:
        found = Reading(type=UNREADABLE, event_id=envelope.message_id)
    is_sound = _TYPE.fullmatch(found.type) and _is_key(found.object_key)
    return Reading(
        type=found.type if is_sound else UNREADABLE,
        object_key=found.object_key if is_sound else "",
        event_id=(
            found.event_id
            if _EVENT_ID.fullmatch(found.event_id)
            else f"sha256:{sha256(body).hexdigest()}"
        ),
    )


def is_forward(*, rank: int, standing: int, is_final: bool) -> bool:
    """Say whether an event of this rank takes on an object that stands there, whenever it came."""
    return not is_final and rank > standing


def look_again_seconds(*, waited: timedelta) -> float | None:
    """
    Return when an event whose object is not known is looked at again; None once it was 72 hours.

    After as long as it has waited, 1 s at least and 1 h at most: most are found within seconds.
    """
    if waited >= PARKED_MAX:
        return None
    shortest, longest = _LOOK_AGAIN_SECONDS
    return min(max(waited.total_seconds(), shortest), longest)


def _is_key(text: str) -> bool:
    return len(text) <= KEY_LENGTH_MAX and text.isprintable()
