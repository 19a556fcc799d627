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
_handlers: dict[tuple[str, str], InboundHandler] = {}


def register_provider(*, name: str, read: Reader) -> None:
    """
    Take messages at `/hooks/{name}/…` that are signed as Standard Webhooks has it.

    `read(envelope, body)` returns what a message says of itself, or raises `ValueError`.
    """
    _providers[name] = Provider(name, read)


def register_inbound(*, provider: str, type: str, handler: InboundHandler) -> None:  # noqa: A002
    """Have `handler` do what a provider's events of this type ask for; the others are ignored."""
    _handlers[provider, type] = handler


def find_provider(name: str) -> Provider | None:
    """Return the provider of this name, or None."""
    return _providers.get(name)


def find_handler(*, provider: str, type: str) -> InboundHandler | None:  # noqa: A002
    """Return what handles a provider's events of this type, or None."""
    return _handlers.get((provider, type))
