"""
An event of the tests' own that changed twice, and one that never did.

    2026-11-01   {"parcel", "weight": {"amount": 1500, "unit": "g"}, "carrier": "ems"}
    2026-06-01   {"parcel", "weight": 1500, "carrier": "ems"}
    2026-02-01   {"parcel", "weight": "1500 g"}
"""

from dataclasses import dataclass
from typing import ClassVar

from apps.core import clock, outbox, transactions, versions
from apps.core.events import Event
from tests.webhooks.factories import TESTS, relay

THIRD, SECOND, FIRST = versions.NEWEST, "2026-06-01", "2026-02-01"


@dataclass(frozen=True, kw_only=True)
class ParcelSent(Event):
    name: ClassVar[str] = "tests.parcel.sent"
    aggregate_type: ClassVar[str] = "parcel"
    read_scope: ClassVar[str] = "webhooks:read"

    parcel: str
    weight: dict[str, object]
    carrier: str


@dataclass(frozen=True, kw_only=True)
class ParcelLost(Event):
    name: ClassVar[str] = "tests.parcel.lost"
    aggregate_type: ClassVar[str] = "parcel"
    read_scope: ClassVar[str] = "webhooks:read"

    parcel: str


def before_units(data):
    data["weight"] = data["weight"]["amount"]
    return data


def before_carriers(data):
    del data["carrier"]
    return data | {"weight": f"{data['weight']} g"}


# In the order of neither the versions nor the steps.
versions.register_downgrade(ParcelSent, version=FIRST, step=before_carriers)
versions.register_downgrade(ParcelSent, version=SECOND, step=before_units)

SHAPES = {
    THIRD: {"parcel": "p1", "weight": {"amount": 1500, "unit": "g"}, "carrier": "ems"},
    SECOND: {"parcel": "p1", "weight": 1500, "carrier": "ems"},
    FIRST: {"parcel": "p1", "weight": "1500 g"},
}


@transactions.outermost
def _publish(event):
    outbox.publish(event, actor=TESTS, now=clock.now())


def send_parcel(organization, *, sequence=1, about="p1"):
    """Commit that a parcel was sent, and have it fanned out."""
    _publish(
        ParcelSent(
            organization_id=organization.id,
            aggregate_id=about,
            sequence=sequence,
            occurred_at=clock.now(),
            **SHAPES[THIRD],
        )
    )
    relay()


def lose_parcel(organization, *, sequence=1, about="p2"):
    """Commit that a parcel was lost, and have it fanned out."""
    _publish(
        ParcelLost(
            organization_id=organization.id,
            aggregate_id=about,
            sequence=sequence,
            occurred_at=clock.now(),
            parcel=about,
        )
    )
    relay()
