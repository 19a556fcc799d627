"""The states of a customer and the moves between them; modes, and purposes of contacts."""

from typing import Final

from django.db.models import TextChoices


class CustomerState(TextChoices):
    """A frozen customer's money stays where it is; a closed one comes back never."""

    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


class Mode(TextChoices):
    """Whether an organization's money is real."""

    LIVE = "live"
    TEST = "test"


class Purpose(TextChoices):
    """What a contact of an organization is told about."""

    TECHNICAL = "technical"
    FINANCE = "finance"
    SECURITY = "security"


MOVES: Final[dict[CustomerState, frozenset[CustomerState]]] = {
    CustomerState.OPEN: frozenset({CustomerState.FROZEN, CustomerState.CLOSED}),
    CustomerState.FROZEN: frozenset({CustomerState.OPEN, CustomerState.CLOSED}),
    CustomerState.CLOSED: frozenset(),
}
