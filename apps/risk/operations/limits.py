"""Setting hard limits. Stricter takes one person and holds at once; looser takes two."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.risk import queries
from apps.risk.errors import LimitRaiseNeedsTwo, LimitRefused
from apps.risk.models import Limit, LimitScope
from apps.risk.rules import WindowKind


@dataclass(frozen=True, kw_only=True)
class LimitChange:
    """A limit as it is to be. Amounts in minor units; None is no cap."""

    scope: str
    act: str
    currency: str
    customer_id: UUID | None = None
    window: WindowKind = WindowKind.CALENDAR_DAY
    zone: str = "Europe/Berlin"
    max_amount_minor: int | None = None
    max_count: int | None = None
    net_of_returns: bool = True


@transactions.outermost
def set_limit(
    *,
    organization_id: UUID,
    change: LimitChange,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Limit:
    """
    Set a limit where there is none, or lower the one in force; it holds from now on.

    Replaying the key returns the limit that was set, ended or not.

    :raises LimitRaiseNeedsTwo: if the limit in force is stricter in anything
    :raises LimitRefused: if a cap is negative, there is none, or the zone is unknown
    """
    _refuse_malformed(change)
    claim = idempotency.claim(
        organization_id, idempotency_key, "set_limit", vars(change), reason, prefix="lim"
    )
    if claim.replayed:
        return Limit.objects.get(organization_id=organization_id, id=claim.resource_id)
    # The row that `admit` locks for such a limit: no act runs between the old one and the new.
    value = change.customer_id or organization_id
    kind = "customer" if change.scope == LimitScope.CUSTOMER else "organization"
    queries.lock_scopes(organization_id=organization_id, scopes=[(kind, value)])
    standing = queries.get_limit_for_update(
        organization_id=organization_id,
        scope=change.scope,
        customer_id=change.customer_id,
        act=change.act,
        currency=change.currency,
    )
    before = None if standing is None else _caps(standing)
    if standing is not None:
        _refuse_looser(standing, change)
        standing.ended_at = now
        standing.save(update_fields=["ended_at"])
    limit = Limit.objects.create(
        id=claim.resource_id,
        organization_id=organization_id,
        set_by=str(actor),
        reason=reason,
        set_at=now,
        **{**vars(change), "window": change.window.value},
    )
    audit.record(
        "risk.lower_limit", limit, actor=actor, reason=reason, before=before, after=_caps(limit)
    )
    return limit


def _refuse_malformed(change: LimitChange) -> None:
    caps = [cap for cap in (change.max_amount_minor, change.max_count) if cap is not None]
    if not caps or min(caps) < 0:
        raise LimitRefused("A limit has a cap, and none below zero.")
    try:
        ZoneInfo(change.zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise LimitRefused("There is no such time zone.") from None


def _refuse_looser(standing: Limit, change: LimitChange) -> None:
    for old, new in (
        (standing.max_amount_minor, change.max_amount_minor),
        (standing.max_count, change.max_count),
    ):
        if old is not None and (new is None or new > old):
            raise LimitRaiseNeedsTwo("Raising or removing a limit takes two people.")
    same = (standing.zone, standing.net_of_returns) == (change.zone, change.net_of_returns)
    if not same:
        raise LimitRaiseNeedsTwo("Changing how a limit counts takes two people.")


def _caps(limit: Limit) -> dict[str, object]:
    return {"max_amount": limit.max_amount_minor, "max_count": limit.max_count}
