"""Which endpoint gets which event, and on which lane."""

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Final

from apps.webhooks.errors import SubscriptionNotPermitted, UnknownEventType

LANE_KEYS: Final = 2**31
PING: Final = "webhook.ping"
# What this app says about itself. Such events never cause further ones of their kind.
_OPERATIONAL: Final = ("webhook.", "webhook_endpoint.", "webhook_delivery.")


def is_operational(type_: str) -> bool:
    """Say whether an event is about webhooks themselves."""
    return type_.startswith(_OPERATIONAL)


def is_wanted(event_types: Sequence[str], *, type_: str, endpoint: str, about: str | None) -> bool:
    """
    Say whether an endpoint gets an event.

    `about` is the endpoint an operational event is about: a ping goes to that one only, all others
    to the other endpoints, since that one may be what is broken.
    """
    if type_ == PING:
        return endpoint == about
    if is_operational(type_) and endpoint == about:
        return False
    return is_subscribed(event_types, type_)


def is_subscribed(event_types: Sequence[str], type_: str) -> bool:
    """Say whether a subscription (`payout.returned`, `payout.*`, `*`) takes this type."""
    noun = type_.rpartition(".")[0]
    return any(each in {"*", type_, f"{noun}.*"} for each in event_types)


def check_event_types(event_types: Sequence[str], *, known: Collection[str]) -> None:
    """
    Check that each subscription can ever match one of the known types.

    :raises UnknownEventType: naming the first that cannot
    """
    possible = {"*", *known, *(f"{type_.rpartition('.')[0]}.*" for type_ in known)}
    for each in event_types:
        if each not in possible:
            raise UnknownEventType("There is no such event type.", event_type=each)


def lane_key(aggregate_id: str) -> int:
    """Return a number that is the same for all events of one aggregate, below 2^31."""
    return int.from_bytes(sha256(aggregate_id.encode()).digest()[:8], "big") % LANE_KEYS


def lane_of(key: int, *, lanes: int) -> int:
    """Return the lane, 0 to `lanes` - 1, on which an aggregate's events go one by one."""
    return key % lanes


def hidden_types(read_scopes: Mapping[str, str], *, scopes: Collection[str]) -> dict[str, str]:
    """Return the types that a key with these scopes may not read, each with the scope it lacks."""
    return {type_: scope for type_, scope in read_scopes.items() if scope not in scopes}


def check_readable(event_types: Sequence[str], *, hidden: Mapping[str, str]) -> None:
    """
    Check that nothing these subscriptions bring is hidden from a key.

    :raises SubscriptionNotPermitted: naming the first type that is
    """
    for type_, scope in sorted(hidden.items()):
        if is_subscribed(event_types, type_):
            raise SubscriptionNotPermitted(
                "This API key may not read what these events are about.",
                event_type=type_,
                required_scope=scope,
            )
