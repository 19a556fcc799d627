"""
The providers there are, and what the apps above do with their events; this app imports none.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from apps.core.actors import Actor
from apps.core.events import Event
from apps.webhooks.rules.inbound import Reader


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider whose signed messages we take; `read` says what a message is."""

    name: str
    read: Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """One event of a provider as its handler gets it; `body` is the bytes that were signed."""

    organization_id: UUID
    inbound_event_id: UUID
    provider: str
    type: str
    event_id: str
    object_key: str
    received_at: datetime
    actor: Actor
    now: datetime
    # Never in a log: whoever prints a message prints the rest.
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An object, locked, and how far it is; what is final stays as it is."""

    subject: Any
    rank: int
    is_final: bool = False


class InboundHandler(Protocol):
    """
    What an app does with a provider's events of one type, in one transaction that it does not end.

    Ranks are the app's own scale for one kind of object. An event is applied only where its rank is
    higher than the object's, whenever it came; the inbox compares, so that no handler forgets to.
    """

    def lock(self, message: InboundMessage) -> Standing | None:
        """
        Lock what the message is about, found by its `object_key`; None if nobody knows it yet.

        The row of the event is locked already: work rows come before the rows they are about.
        """
        ...

    def rank_of(self, message: InboundMessage) -> int:
        """Return how far the message takes its object, and every step before that with it."""
        ...

    def apply(self, subject: Any, message: InboundMessage) -> Event:  # noqa: ANN401 - see `Standing`
        """
        Take the object there; publish the event about it that says so, and return that event.

        By it the inbox proves later that what it calls applied has its effect.
        """
        ...


_providers: dict[str, Provider] = {}


@dataclass(frozen=True, slots=True)
class Registered:
    """A handler, and whether its events may be worked together."""

    handler: InboundHandler
    together: bool = False


_handlers: dict[tuple[str, str], Registered] = {}


def register_provider(*, name: str, read: Reader) -> None:
    """
    Take messages at `/hooks/{name}/…` that are signed as Standard Webhooks has it.

    `read(envelope, body)` returns what a message says of itself, or raises `ValueError`.
    """
    _providers[name] = Provider(name, read)


def register_inbound(
    *,
    provider: str,
    type: str,  # noqa: A002
    handler: InboundHandler,
    together: bool = False,
) -> None:
    """
    Have `handler` do what a provider's events of this type ask for; the others are ignored.

    `together` lets many events of one organization share a transaction, which is several times
    faster. It is for a handler that locks nothing but its object: the inbox takes those in one
    order over all of them. One that posts to the ledger must not have it, since balances that are
    locked event by event are in no order.
    """
    _handlers[provider, type] = Registered(handler, together=together)


def find_provider(name: str) -> Provider | None:
    """Return the provider of this name, or None."""
    return _providers.get(name)


def find_handler(*, provider: str, type: str) -> InboundHandler | None:  # noqa: A002
    """Return what handles a provider's events of this type, or None."""
    found = _handlers.get((provider, type))
    return None if found is None else found.handler


def is_worked_together(*, provider: str, type: str) -> bool:  # noqa: A002
    """Say whether a provider's events of this type may share a transaction; what is ignored may."""
    found = _handlers.get((provider, type))
    return found is None or found.together


def list_handled_types(provider: str) -> list[str]:
    """Return the types of a provider's events that are handled, by name."""
    return sorted(type_ for name, type_ in _handlers if name == provider)
