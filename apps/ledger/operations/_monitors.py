"""Balance monitors: set one, and call it off."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_ids
from apps.ledger import errors, queries, rules
from apps.ledger.models import Balance, BalanceMonitor
from apps.ledger.operations import _engine
from apps.ledger.rules import BalanceState, MonitorDirection, MonitorMeasure

# Each posting on an account looks at all its monitors.
MONITORS_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorTerms:
    """What a monitor is to watch; `threshold_minor` is on the account's normal side."""

    account_id: UUID
    measure: MonitorMeasure
    direction: MonitorDirection
    threshold_minor: int
    description: str = ""


@transactions.outermost
def create_monitor(
    *,
    organization_id: UUID,
    terms: MonitorTerms,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> UUID:
    """
    Watch an account's balance, and return the monitor's id.

    A balance that is beyond the threshold already tells nothing until it has been back. Replaying
    the key returns the monitor.

    :raises LedgerAccountsNotFound: if the organisation has no such account
    :raises TooManyBalanceMonitors: if the account has as many as it can have
    """
    parts = astuple(terms)
    claim = idempotency.claim(
        organization_id, idempotency_key, "create_monitor", *parts, prefix="bm"
    )
    if claim.replayed:
        return claim.resource_id
    # On which side of the threshold the balance stands is decided by the clock, and under its lock.
    ids = [terms.account_id]
    balances = queries.lock_balances(organization_id=organization_id, account_ids=ids)
    _engine.release_expired(organization_id=organization_id, account_ids=ids, now=now)
    _watch(organization_id, claim.resource_id, terms, balances, actor=actor, now=now)
    return claim.resource_id


@transactions.required
def restore_monitors(
    *, organization_id: UUID, monitors: Sequence[MonitorTerms], actor: Actor, now: datetime
) -> None:
    """
    Watch balances of an imported journal as those of the exported one were watched.

    Each stands where the counters do: a hold that is over is released by whoever moves the balance.

    :raises TooManyBalanceMonitors: if an account gets more than it can have
    """
    # The balances of all of them, before the monitors of the first.
    balances = queries.lock_balances(
        organization_id=organization_id, account_ids={terms.account_id for terms in monitors}
    )
    for id_, terms in zip(new_ids(len(monitors)), monitors, strict=True):
        _watch(organization_id, id_, terms, balances, actor=actor, now=now)


def _watch(
    organization_id: UUID,
    id_: UUID,
    terms: MonitorTerms,
    balances: Mapping[UUID, BalanceState],
    *,
    actor: Actor,
    now: datetime,
) -> None:
    account_id = terms.account_id
    # They are locked, as every posting locks them: what was posted before is seen here, and what is
    # posted after sees `monitored`. So no crossing falls between.
    if account_id not in balances:
        raise errors.LedgerAccountsNotFound(
            "There is no such ledger account.", ledger_account=encode_id("la", account_id)
        )
    standing = queries.lock_monitors(organization_id=organization_id, account_ids=[account_id])
    if len(standing) >= MONITORS_MAX:
        raise errors.TooManyBalanceMonitors(
            "This ledger account has as many active monitors as it can have.", max=MONITORS_MAX
        )
    monitor = BalanceMonitor.objects.create(
        id=id_,
        organization_id=organization_id,
        account_id=account_id,
        measure=terms.measure,
        direction=terms.direction,
        threshold_minor=terms.threshold_minor,
        description=terms.description,
        is_beyond=rules.is_beyond(
            rules.measured(balances[account_id], terms.measure),
            direction=terms.direction,
            threshold_minor=terms.threshold_minor,
        ),
        created_at=now,
    )
    _mark_monitored(organization_id, account_id, is_monitored=True)
    audit.record("ledger.create_monitor", monitor, actor=actor, after=_terms(monitor))


@transactions.outermost
def deactivate_monitor(
    *, organization_id: UUID, monitor_id: UUID, actor: Actor, now: datetime
) -> None:
    """
    Call a monitor off for good; one that is off already stays so, and nothing is written.

    :raises BalanceMonitorNotFound: if the organisation has no such monitor
    """
    account_id = queries.get_monitor(
        organization_id=organization_id, monitor_id=monitor_id
    ).account_id
    # Balance, then monitors, as a posting takes them: of two that end the last two monitors of an
    # account at once, the later one finds none left and says so on the balance.
    queries.lock_balances(organization_id=organization_id, account_ids=[account_id])
    active = queries.lock_monitors(organization_id=organization_id, account_ids=[account_id])
    if monitor_id not in {monitor.id for monitor in active}:
        return
    BalanceMonitor.objects.filter(organization_id=organization_id, id=monitor_id).update(
        is_active=False
    )
    if len(active) == 1:
        _mark_monitored(organization_id, account_id, is_monitored=False)
    audit.record(
        "ledger.deactivate_monitor",
        ("ledger.balancemonitor", str(monitor_id)),
        organization_id=organization_id,
        actor=actor,
        before={"is_active": True},
        after={"is_active": False, "at": now.isoformat()},
    )


def _mark_monitored(organization_id: UUID, account_id: UUID, *, is_monitored: bool) -> None:
    Balance.objects.filter(organization_id=organization_id, id=account_id).update(
        monitored=is_monitored
    )


def _terms(monitor: BalanceMonitor) -> dict[str, object]:
    return {
        "ledger_account": encode_id("la", monitor.account_id),
        "measure": monitor.measure,
        "direction": monitor.direction,
        "threshold": monitor.threshold_minor,
    }
