"""What apps above want done when a customer is made or a freeze renewed, in that transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from apps.core.actors import Actor


class CustomerOpener(Protocol):
    """Opens what a new customer needs in each of the currencies; runs once per new customer."""

    def __call__(
        self,
        *,
        organization_id: UUID,
        customer_id: UUID,
        currencies: Sequence[str],
        actor: Actor,
        now: datetime,
    ) -> None: ...


_openers: Final[dict[str, CustomerOpener]] = {}


def register_customer_opener(name: str, opener: CustomerOpener) -> None:
    """Have `opener` run whenever a customer is made; called from `AppConfig.ready()`."""
    _openers[name] = opener


def customer_openers() -> Sequence[CustomerOpener]:
    """Return every registered opener."""
    return list(_openers.values())


class RefreezeListener(Protocol):
    """Hears that compliance made a standing freeze its own; the customer is locked."""

    def __call__(
        self, *, organization_id: UUID, customer_id: UUID, actor: Actor, now: datetime
    ) -> None: ...


_refreeze_listeners: Final[dict[str, RefreezeListener]] = {}


def register_refreeze_listener(name: str, listener: RefreezeListener) -> None:
    """Have `listener` run whenever a freeze is made anew; called from `AppConfig.ready()`."""
    _refreeze_listeners[name] = listener


def refreeze_listeners() -> Sequence[RefreezeListener]:
    """Return every registered listener."""
    return list(_refreeze_listeners.values())
