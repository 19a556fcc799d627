"""Destinations and their versions."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import QuerySet

from apps.payouts.errors import DestinationNotFound
from apps.payouts.models import Destination, DestinationVersion


def get_destination(*, organization_id: UUID, destination_id: UUID) -> Destination:
    """
    Return one destination.

    :raises DestinationNotFound: if the organization has no such destination
    """
    found = Destination.objects.filter(organization_id=organization_id, id=destination_id).first()
    if found is None:
        raise DestinationNotFound("There is no such destination.")
    return found


def get_destination_for_update(*, organization_id: UUID, destination_id: UUID) -> Destination:
    """
    Return one destination, locked: requests to it run one after the other, and so does a change.

    :raises DestinationNotFound: if the organization has no such destination
    """
    found = (
        Destination.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=destination_id)
        .first()
    )
    if found is None:
        raise DestinationNotFound("There is no such destination.")
    return found


def lock_destinations(
    *, organization_id: UUID, destination_ids: Collection[UUID]
) -> dict[UUID, Destination]:
    """Return these destinations by id, locked in ascending order."""
    # Two bank facts about one destination at once: the second sees what the first made of it.
    rows = Destination.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, id__in=destination_ids
    )
    return {row.id: row for row in rows.order_by("id")}


def list_destinations(
    *, organization_id: UUID, customer_id: UUID | None = None
) -> QuerySet[Destination]:
    """Return the organization's destinations, newest first."""
    found = Destination.objects.filter(organization_id=organization_id).order_by("-id")
    return found if customer_id is None else found.filter(customer_id=customer_id)


def get_version_in_use(destination: Destination) -> DestinationVersion:
    """Return the newest version: the one in use, or the last one of a disabled destination."""
    return DestinationVersion.objects.filter(
        organization_id=destination.organization_id, destination_id=destination.id
    ).order_by("-number")[0]


def versions_by_destination(
    destinations: Collection[Destination],
) -> dict[UUID, DestinationVersion]:
    """Return the newest version of each of these destinations, of one organization."""
    rows = DestinationVersion.objects.filter(
        organization_id__in={one.organization_id for one in destinations},
        destination_id__in=[one.id for one in destinations],
    )
    return {row.destination_id: row for row in rows.order_by("number")}


def list_versions(
    *, organization_id: UUID, version_ids: Collection[UUID]
) -> dict[UUID, DestinationVersion]:
    """Return these versions by id."""
    rows = DestinationVersion.objects.filter(organization_id=organization_id, id__in=version_ids)
    return {row.id: row for row in rows}


def find_destination_of(
    *, organization_id: UUID, customer_id: UUID, fingerprint: bytes
) -> UUID | None:
    """Return the destination in use with this fingerprint, or None."""
    return (
        DestinationVersion.objects.filter(
            organization_id=organization_id,
            customer_id=customer_id,
            fingerprint=fingerprint,
            retired_at__isnull=True,
        )
        .values_list("destination_id", flat=True)
        .first()
    )
