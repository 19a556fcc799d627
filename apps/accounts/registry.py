"""What apps above want done when a customer is made, in the same transaction."""

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
