"""Reads of risk, and the only place here that locks."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Q

from apps.risk.models import Decision, Limit, LimitScope, Scope
from apps.risk.rules import (
    COUNTED,
    LimitCheck,
    LimitTerms,
    Usage,
    WindowKind,
    check,
    window_at,
)


def lock_scopes(*, organization_id: UUID, scopes: Collection[tuple[str, UUID]]) -> None:
    """
    Lock the counter rows of these scopes, ascending, making those that are not there.

    Acts of one scope then run one after the other: each sees what the one before it counted.
    """
    Scope.objects.bulk_create(
        [
            Scope(organization_id=organization_id, scope_type=type_, scope_value=value)
            for type_, value in sorted(scopes)
        ],
        ignore_conflicts=True,
    )
    named = Q()
    for type_, value in scopes:
        named |= Q(scope_type=type_, scope_value=value)
    list(
        Scope.objects.select_for_update(no_key=True)
        .filter(named, organization_id=organization_id)
        .order_by("id")
    )


def list_limits(
    *, organization_id: UUID, act: str, currency: str, customer_id: UUID | None = None
) -> Sequence[Limit]:
    """Return the limits in force on an act; with a customer, those that apply to that one."""
    limits = Limit.objects.filter(
        organization_id=organization_id, act=act, currency=currency, ended_at__isnull=True
    )
    if customer_id is not None:
        limits = limits.filter(~Q(scope=LimitScope.CUSTOMER) | Q(customer_id=customer_id))
    return list(limits.order_by("id"))


def terms_of(limit: Limit) -> LimitTerms:
    """Return what the limit says, as the rules read it."""
    return LimitTerms(
        limit_id=limit.id,
        currency=limit.currency,
        window=WindowKind(limit.window),
        zone=limit.zone,
        max_amount_minor=limit.max_amount_minor,
        max_count=limit.max_count,
        net_of_returns=limit.net_of_returns,
    )


def check_limit(
    *, limit: Limit, customer_id: UUID, requested_minor: int, instant: datetime
) -> LimitCheck:
    """
    Apply one limit to an act of this customer at `instant`, reading what was used.

    Safe against races only while the limit's scope row is locked.
    """
    terms = terms_of(limit)
    window = window_at(instant=instant, kind=terms.window, zone=terms.zone)
    used = _usage(limit=limit, customer_id=customer_id, since=window.start, until=window.end)
    return check(terms=terms, used=used, requested_minor=requested_minor, instant=instant)


_USAGE = """
    SELECT coalesce(sum(amount_minor - CASE WHEN %(net)s THEN returned_minor ELSE 0 END), 0),
           count(*)
      FROM risk_fact
     WHERE organization_id = %(organization)s
       AND kind = %(act)s AND currency = %(currency)s AND state = ANY(%(counted)s)
       AND occurred_at >= %(since)s AND occurred_at < %(until)s
       AND (%(customer)s::uuid IS NULL OR customer_id = %(customer)s)
"""


def _usage(*, limit: Limit, customer_id: UUID, since: datetime, until: datetime) -> Usage:
    whole = limit.scope == LimitScope.ORGANIZATION
    with connection.cursor() as cursor:
        cursor.execute(
            _USAGE,
            {
                "net": limit.net_of_returns,
                "organization": limit.organization_id,
                "act": limit.act,
                "currency": limit.currency,
                "counted": [state.value for state in COUNTED],
                "since": since,
                "until": until,
                "customer": None if whole else customer_id,
            },
        )
        amount, count = cursor.fetchone() or (0, 0)
    return Usage(int(amount), int(count))


def get_limit_for_update(
    *,
    organization_id: UUID,
    scope: str,
    customer_id: UUID | None,
    act: str,
    currency: str,
) -> Limit | None:
    """Return the limit in force with this scope, act and currency, locked; None if none is."""
    # Two changes of one limit at once: the second sees the first's.
    limits = Limit.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id,
        scope=scope,
        act=act,
        currency=currency,
        ended_at__isnull=True,
    )
    if customer_id is not None:
        limits = limits.filter(customer_id=customer_id)
    return limits.first()


def list_decisions(
    *, organization_id: UUID, subject_type: str, subject_id: UUID
) -> Sequence[Decision]:
    """Return every decision on one subject, oldest first."""
    return list(
        Decision.objects.filter(
            organization_id=organization_id, subject_type=subject_type, subject_id=subject_id
        ).order_by("id")
    )
