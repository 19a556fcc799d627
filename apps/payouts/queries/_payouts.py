"""Payouts, their history, and what a reader sees beside them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from apps.approvals import queries as approvals
from apps.payouts.errors import PayoutNotFound
from apps.payouts.models import DestinationVersion, Payout, PayoutTransition
from apps.payouts.queries._destinations import list_versions
from apps.payouts.states import BEFORE_FILE, PayoutState


def get_payout(*, organization_id: UUID, payout_id: UUID) -> Payout:
    """
    Return one payout, unlocked.

    :raises PayoutNotFound: if the organization has no such payout
    """
    found = Payout.objects.filter(organization_id=organization_id, id=payout_id).first()
    if found is None:
        raise PayoutNotFound("There is no such payout.")
    return found


def get_payout_for_update(*, organization_id: UUID, payout_id: UUID) -> Payout:
    """
    Return one payout, locked: it is not frozen, canceled or decided before this ends.

    :raises PayoutNotFound: if the organization has no such payout
    """
    found = (
        Payout.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id=payout_id)
        .first()
    )
    if found is None:
        raise PayoutNotFound("There is no such payout.")
    return found


def lock_payouts(*, organization_id: UUID, payout_ids: Collection[UUID]) -> dict[UUID, Payout]:
    """Return these payouts by id, locked in ascending order."""
    # After the batch, before balances: the one order in which everything here waits.
    rows = Payout.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, id__in=payout_ids
    )
    return {row.id: row for row in rows.order_by("id")}


def lock_payouts_to(
    *, organization_id: UUID, destination_ids: Collection[UUID]
) -> Sequence[Payout]:
    """Return the payouts to destinations that are in no file yet, locked in ascending order."""
    rows = Payout.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id,
        destination_id__in=destination_ids,
        state__in=sorted(BEFORE_FILE),
    )
    return list(rows.order_by("id"))


def list_payouts(
    *,
    organization_id: UUID,
    customer_id: UUID | None = None,
    external_id: str | None = None,
) -> QuerySet[Payout]:
    """Return the organization's payouts, newest first."""
    found = Payout.objects.filter(organization_id=organization_id).order_by("-id")
    if customer_id is not None:
        found = found.filter(customer_id=customer_id)
    return found if external_id is None else found.filter(external_id=external_id)


def find_by_external_id(*, organization_id: UUID, external_id: str) -> UUID | None:
    """Return the id of the payout with this external id, or None."""
    return (
        Payout.objects.filter(organization_id=organization_id, external_id=external_id)
        .values_list("id", flat=True)
        .first()
    )


def list_recent_references(
    *, organization_id: UUID, destination_id: UUID, amount_minor: int, since: datetime
) -> list[tuple[UUID, str]]:
    """
    Return payouts to a destination that were asked for after `since`, and their words.

    `amount_minor` is what was asked for, in minor units; another amount is no duplicate.
    """
    found = Payout.objects.filter(
        organization_id=organization_id,
        destination_id=destination_id,
        requested_at__gt=since,
        requested_amount_minor=amount_minor,
    )
    # A canceled, declined or denied one left no trace: asking again at once is no duplicate.
    closed = (PayoutState.CANCELED, PayoutState.DECLINED, PayoutState.DENIED)
    rows = found.exclude(state__in=closed).order_by("id")
    return [
        (id_, remittance or reference)
        for id_, remittance, reference in rows.values_list("id", "remittance", "creditor_reference")
    ]


def list_cooled_down(*, now: datetime, limit: int = 500) -> Sequence[Payout]:
    """Return held payouts whose cooldown is over, of every organization."""
    return list(
        Payout.objects.filter(state=PayoutState.HELD, available_at__lte=now).order_by(
            "available_at", "id"
        )[:limit]
    )


def list_transitions(*, organization_id: UUID, payout_id: UUID) -> Sequence[PayoutTransition]:
    """Return a payout's history, oldest first."""
    return list(
        PayoutTransition.objects.filter(
            organization_id=organization_id, payout_id=payout_id
        ).order_by("number")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutView:
    """A payout with what a reader sees beside it: its account masked, people, times."""

    payout: Payout
    version: DestinationVersion
    people: tuple[int, int] | None
    times: Mapping[str, datetime]


def view_payouts(payouts: Sequence[Payout]) -> list[PayoutView]:
    """Return views of these payouts of one organization, in a fixed number of queries."""
    if not payouts:
        return []
    organization_id = payouts[0].organization_id
    versions = list_versions(
        organization_id=organization_id,
        version_ids={payout.destination_version_id for payout in payouts},
    )
    asked = {one.approval_request_id for one in payouts if one.approval_request_id is not None}
    people = approvals.count_people_of(organization_id=organization_id, request_ids=asked)
    times: dict[UUID, dict[str, datetime]] = {}
    for move in PayoutTransition.objects.filter(
        organization_id=organization_id, payout_id__in=[payout.id for payout in payouts]
    ).order_by("payout_id", "number"):
        times.setdefault(move.payout_id, {})[move.to_state] = move.occurred_at
    return [
        PayoutView(
            payout=payout,
            version=versions[payout.destination_version_id],
            people=people.get(payout.approval_request_id) if payout.approval_request_id else None,
            times=times.get(payout.id, {}),
        )
        for payout in payouts
    ]
