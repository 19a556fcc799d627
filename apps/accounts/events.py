"""What leaves accounts. No name, no e-mail: ids and states."""

from dataclasses import dataclass
from typing import ClassVar

from apps.core.events import Event


@dataclass(frozen=True, kw_only=True)
class CustomerEvent(Event):
    """Something happened to a customer; `id` and `external_id` name it."""

    aggregate_type: ClassVar[str] = "customer"

    id: str
    external_id: str | None
    state: str


@dataclass(frozen=True, kw_only=True)
class CustomerCreated(CustomerEvent):
    name: ClassVar[str] = "accounts.customer.created"


@dataclass(frozen=True, kw_only=True)
class CustomerUpdated(CustomerEvent):
    name: ClassVar[str] = "accounts.customer.updated"


@dataclass(frozen=True, kw_only=True)
class CustomerFrozen(CustomerEvent):
    name: ClassVar[str] = "accounts.customer.frozen"


@dataclass(frozen=True, kw_only=True)
class CustomerUnfrozen(CustomerEvent):
    name: ClassVar[str] = "accounts.customer.unfrozen"
