"""What a bank's reason code does to a destination."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core.actors import Actor
from apps.payouts import queries
from apps.payouts.operations.destinations import disable, move_destination
from apps.payouts.rules import CODES, DestinationEffect, handling
from apps.payouts.states import DestinationState

_SECOND_TIME: Final = tuple(
    code
    for code, row in CODES.items()
    if row.destination is DestinationEffect.SUSPENDED_SECOND_TIME
)


def apply_to_destinations(
    *,
    organization_id: UUID,
    codes: Mapping[UUID, Collection[str]],
    actor: Actor,
    now: datetime,
) -> None:
    """
    Disable, suspend or keep destinations by the codes that payouts to them came back with.

    Called with the payouts locked and the attempts' codes stored, before balances are locked.
    """
    touched = {
        id_
        for id_, given in codes.items()
        if any(handling(code).destination is not DestinationEffect.KEPT for code in given)
    }
    if not touched:
        return
    destinations = queries.lock_destinations(
        organization_id=organization_id, destination_ids=touched
    )
    for id_, destination in destinations.items():
        effects = {handling(code).destination: code for code in sorted(codes[id_])}
        if DestinationEffect.DISABLED in effects:
            if destination.state != DestinationState.DISABLED:
                code = effects[DestinationEffect.DISABLED]
                disable(destination, reason=_ground(code), actor=actor, now=now)
        elif DestinationEffect.SUSPENDED in effects:
            move_destination(
                destination,
                DestinationState.SUSPENDED,
                reason=_ground(effects[DestinationEffect.SUSPENDED]),
                actor=actor,
                now=now,
            )
        elif _seen_before(organization_id, id_):
            code = effects[DestinationEffect.SUSPENDED_SECOND_TIME]
            move_destination(
                destination,
                DestinationState.SUSPENDED,
                reason=_ground(code),
                actor=actor,
                now=now,
            )


def _seen_before(organization_id: UUID, destination_id: UUID) -> bool:
    seen = queries.count_code(
        organization_id=organization_id, destination_id=destination_id, codes=_SECOND_TIME
    )
    # The one that led here is stored already.
    return seen > 1


def _ground(code: str) -> str:
    return f"bank_code_{code}"
