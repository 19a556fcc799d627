"""Whose rows a person may see."""

from typing import Any, Final
from uuid import UUID

from apps.accounts.models import Organization
from apps.accounts.queries import for_staff

ORGANIZATIONS_MAX: Final = 100


def organizations_of(user: Any) -> list[Organization]:  # noqa: ANN401  (the signed-in person)
    """Return the organizations this person may see, live ones first, at most a hundred."""
    rows = for_staff(Organization.objects.order_by("mode", "id"), user)
    return list(rows[:ORGANIZATIONS_MAX])


def organization_ids_of(user: Any) -> list[UUID]:  # noqa: ANN401  (the signed-in person)
    """Return the ids of all organizations this person may see, however many."""
    return list(for_staff(Organization.objects.order_by(), user).values_list("id", flat=True))


def scope_of(user: Any) -> list[UUID] | None:  # noqa: ANN401  (the signed-in person)
    """Return the organizations listed for this person, or None where they see all."""
    if user.sees_all_organizations:
        return None
    return list(user.scopes.values_list("organization_id", flat=True))
