"""Whose rows a person may see."""

from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet

from apps.accounts.models import Organization
from apps.accounts.queries import for_staff
from apps.core.errors import Refusal
from apps.core.ids import decode_id

ORGANIZATIONS_MAX: Final = 100


def _named_organizations(user: Any, named: str = "") -> QuerySet[Organization]:  # noqa: ANN401  (the signed-in person)
    """Return the organizations this person may see: with this in their name, or this printed id."""
    rows = for_staff(Organization.objects.all(), user)
    if not named:
        return rows
    try:
        return rows.filter(id=decode_id("org", named))
    except Refusal:
        # Their names have no index: there are some thousands, and few who look for one.
        return rows.filter(name__icontains=named)


def organizations_of(
    user: Any,  # noqa: ANN401  (the signed-in person)
    *,
    named: str = "",
    chosen: UUID | None = None,
) -> tuple[list[Organization], bool]:
    """
    Return the organizations this person may see, live ones first, and whether there are more.

    At most a hundred: of those that are `named` so, if that is given. The one that is `chosen` is
    always among them, unless it is not theirs to see, or not named so.
    """
    rows = _named_organizations(user, named)
    found = list(rows.order_by("mode", "id")[: ORGANIZATIONS_MAX + 1])
    has_more, found = len(found) > ORGANIZATIONS_MAX, found[:ORGANIZATIONS_MAX]
    if chosen and has_more and chosen not in {one.id for one in found}:
        found += rows.filter(id=chosen)
    return found, has_more


def organization_ids_of(user: Any, named: str = "") -> list[UUID]:  # noqa: ANN401  (the signed-in person)
    """Return the ids of all organizations this person may see, or that are named so."""
    return list(_named_organizations(user, named).order_by().values_list("id", flat=True))


def scope_of(user: Any) -> list[UUID] | None:  # noqa: ANN401  (the signed-in person)
    """Return the organizations listed for this person, or None where they see all."""
    if user.sees_all_organizations:
        return None
    return list(user.scopes.values_list("organization_id", flat=True))
