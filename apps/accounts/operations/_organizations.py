"""Organizations, each with the twin that its test data lives under."""

from datetime import datetime
from functools import cache
from zoneinfo import available_timezones

from apps.accounts import errors
from apps.accounts.models import Organization
from apps.accounts.states import Mode
from apps.core import audit, encryption, transactions
from apps.core.actors import Actor


@transactions.outermost
def create_organization(
    *, name: str, time_zone: str = "UTC", actor: Actor, now: datetime
) -> Organization:
    """
    Create a live organization and its test twin, each with a data key; return the live one.

    :raises UnknownTimeZone: if `time_zone` is no IANA name
    """
    if time_zone not in _time_zones():
        raise errors.UnknownTimeZone("This is not an IANA time zone.")
    live = Organization.objects.create(
        name=name, mode=Mode.LIVE, time_zone=time_zone, created_at=now
    )
    test = Organization.objects.create(
        name=name, mode=Mode.TEST, live_twin=live, time_zone=time_zone, created_at=now
    )
    for organization in (live, test):
        encryption.create_data_key(organization_id=organization.id)
        audit.record(
            "accounts.create_organization",
            organization,
            organization_id=organization.id,
            actor=actor,
            after={"mode": organization.mode, "time_zone": time_zone},
        )
    return live


@cache
def _time_zones() -> set[str]:
    # To list them the standard library opens every file of the zone database.
    return available_timezones()
