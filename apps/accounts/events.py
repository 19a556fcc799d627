"""What leaves accounts. No name, no e-mail: ids and states."""

from dataclasses import dataclass
from typing import ClassVar

from apps.core.events import Event


@dataclass(frozen=True, kw_only=True)
class CustomerEvent(Event):
    """Something happened to a customer; `id` and `external_id` name it."""

    aggregate_type: ClassVar[str] = "customer"
    read_scope: ClassVar[str] = "customers:read"
    example: ClassVar[dict[str, object]] = {
        "id": "cus_01kb1mzxe5f0q8w3v6y2n4r7ta",
        "external_id": "ann-0815",
        "state": "open",
    }

    id: str
    external_id: str | None
    state: str


@dataclass(frozen=True, kw_only=True)
class CustomerCreated(CustomerEvent):
    """A customer was made."""

    name: ClassVar[str] = "accounts.customer.created"


@dataclass(frozen=True, kw_only=True)
class CustomerUpdated(CustomerEvent):
    """What the client keeps with a customer changed."""

    name: ClassVar[str] = "accounts.customer.updated"


@dataclass(frozen=True, kw_only=True)
class CustomerFrozen(CustomerEvent):
    """A customer was stopped from moving money."""

    name: ClassVar[str] = "accounts.customer.frozen"
    example: ClassVar[dict[str, object]] = CustomerEvent.example | {"state": "frozen"}


@dataclass(frozen=True, kw_only=True)
class CustomerUnfrozen(CustomerEvent):
    """A frozen customer may move money again."""

    name: ClassVar[str] = "accounts.customer.unfrozen"
