"""Lanes: those that are due, and those that are locked for what they are owed."""

from collections.abc import Collection, Sequence
from functools import reduce
from operator import or_
from typing import Final, NamedTuple
from uuid import UUID

from django.db.models import Q

from apps.core import claiming, statements
from apps.webhooks.models import WebhookLane

# So many of the oldest are looked at: more than the lanes of one organization, which has sixteen
# endpoints at most.
_REACH: Final = 256
_DUE: Final = f"""
    SELECT organization_id, id, endpoint_id
      FROM (SELECT organization_id, id, endpoint_id,
                   row_number() OVER (PARTITION BY organization_id ORDER BY next_attempt_at)
                       AS place
              FROM (SELECT organization_id, id, endpoint_id, next_attempt_at
                      FROM webhooks_webhooklane
                     WHERE {claiming.DUE} AND is_slow = %(slow)s
                       AND organization_id <> ALL (%(without)s)
                       AND (%(all)s OR endpoint_id = ANY (%(only)s))
                     ORDER BY next_attempt_at LIMIT %(reach)s) AS oldest) AS due
     ORDER BY place, organization_id <= %(after)s, organization_id
     LIMIT %(limit)s
"""  # noqa: S608  (of constants)


class DueLane(NamedTuple):
    """A lane that is due, and the endpoint whose it is."""

    id: UUID
    endpoint_id: UUID


def lock_lanes(*, organization_id: UUID, endpoint_ids: Collection[UUID]) -> list[WebhookLane]:
    """Return the endpoints' lanes, locked in one order."""
    rows = WebhookLane.objects.filter(
        organization_id=organization_id, endpoint_id__in=endpoint_ids
    ).order_by("id")
    return list(rows.select_for_update(no_key=True))


def lock_lanes_of(
    *, organization_id: UUID, places: Collection[tuple[UUID, int]]
) -> list[WebhookLane]:
    """
    Return the lanes at these places, an endpoint and a number each, locked in the same order.

    For what owes a few of them something: who sends on the others waits for nobody.
    """
    of_them = reduce(or_, (Q(endpoint_id=id_, lane=lane) for id_, lane in places))
    rows = WebhookLane.objects.filter(of_them, organization_id=organization_id).order_by("id")
    return list(rows.select_for_update(no_key=True))


def list_due_lanes(
    *,
    is_slow: bool,
    after: UUID,
    limit: int,
    without: Sequence[UUID] = (),
    only: Sequence[UUID] | None = None,
) -> dict[UUID, list[DueLane]]:
    """
    Return lanes that are due and belong to these workers, by organization, `without` some.

    Where `only` some endpoints are asked for, those of others are passed over.

    Organizations come in the order of their ids, from the one that follows `after` on; the lanes of
    each in the order of their due times. Of all of them at most `limit`, the first of each
    organization before the second of any.
    """
    due: dict[UUID, list[DueLane]] = {}
    values = {
        "slow": is_slow,
        "after": after,
        "without": statements.uuids(without),
        "all": only is None,
        "only": statements.uuids(only or ()),
        "limit": limit,
        "reach": _REACH,
    }
    for organization_id, *lane in statements.run(_DUE, values):
        due.setdefault(organization_id, []).append(DueLane(*lane))
    return due


def is_among_slow(*, organization_id: UUID, endpoint_id: UUID) -> bool:
    """Say whether the workers of the slow endpoints send to this one."""
    return WebhookLane.objects.filter(
        organization_id=organization_id, endpoint_id=endpoint_id, is_slow=True
    ).exists()
