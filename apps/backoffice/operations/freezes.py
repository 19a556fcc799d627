"""
Asking two people to lift a customer's freeze.

It lies here because accounts, which owns the customer, knows no approvals: this app sees both.
Accounts refuses for itself who may not lift it (ADR 0174).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from apps.accounts import operations as customers
from apps.accounts import queries as accounts
from apps.accounts.models import Customer
from apps.accounts.roles import Role
from apps.approvals import operations as approvals
from apps.approvals import queries as requests
from apps.approvals import registry
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import Extra, Facts, Policy, Step
from apps.backoffice import errors
from apps.backoffice.operations._asking import asked_before, open_request, refuse_second
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.wall_clock import wall_text
from apps.ledger.registry import AskedFor

log = structlog.stdlib.get_logger("kassa.backoffice")

UNFREEZE_ACT: Final = "accounts.unfreeze_customer"
_COMPLIANCE: Final = "compliance"
_OTHERS: Final = "others"


@transactions.outermost
def request_unfreeze(
    *,
    organization_id: UUID,
    customer_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> AskedFor:
    """
    Ask for a customer's freeze to be lifted; it is, once another person agrees.

    Replaying the key returns the request as it is now.

    :raises CapabilityMissing: if the actor is no person, or one who may not ask for it
    :raises CustomerNotFound: if the organization has no such customer
    :raises CustomerNotFrozen: if it is not frozen
    :raises FreezeOfCompliance: if compliance set it, and the actor is not of them
    :raises UnfreezingAskedForAlready: if a request for it waits already
    :raises TwoPeopleNeeded: if the policy in force asks nobody else
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "request_unfreeze", customer_id, reason, prefix="apr"
    )
    if claim.replayed:
        return asked_before(organization_id, claim.resource_id)
    customer = customers.prepare_unfreeze(
        organization_id=organization_id, customer_id=customer_id, actor=actor
    )
    refuse_second(
        UNFREEZE_ACT,
        errors.UnfreezingAskedForAlready,
        organization_id=organization_id,
        subject_id=customer_id,
        now=now,
    )
    request = open_request(
        UNFREEZE_ACT,
        organization_id=organization_id,
        subject_id=customer_id,
        idempotency_key=idempotency_key,
        actor=actor,
        now=now,
    )
    after = {"approval": encode_id("apr", request.id)}
    # Not as the act itself: on the customer's timeline it would read as done.
    audit.record(
        "accounts.ask_to_unfreeze_customer", customer, actor=actor, reason=reason, after=after
    )
    return AskedFor(request.id, request.state)


# --- What approvals asks of us ------------------------------------------------------------------


def register_freeze_act() -> None:
    """Make the act known: by default one person who may lift just this freeze has to agree."""
    registry.register(
        Act(
            name=UNFREEZE_ACT,
            subject_type="customer",
            capability=UNFREEZE_ACT,
            default_policy=Policy(
                extras=(
                    Extra({"set_by": _COMPLIANCE}, (Step(Role.COMPLIANCE, 1),)),
                    Extra({"set_by": _OTHERS}, (Step(Role.RISK_MANAGER, 1, (Role.COMPLIANCE,)),)),
                )
            ),
            lock=_lock,
            snapshot=_snapshot,
            facts=_facts,
            describe=_describe,
            on_approved=_on_approved,
            on_denied=_on_ended,
            on_expired=_on_ended,
        )
    )


def drop_unfreeze_request(
    *, organization_id: UUID, customer_id: UUID, actor: Actor, now: datetime
) -> None:
    """Withdraw what was asked about a freeze that compliance has made their own since."""
    approvals.withdraw_approval(
        organization_id=organization_id,
        act=UNFREEZE_ACT,
        subject_id=customer_id,
        actor=actor,
        now=now,
    )


def _lock(organization_id: UUID, customer_id: UUID) -> None:
    accounts.get_customer_for_update(organization_id=organization_id, customer_id=customer_id)


def _read(organization_id: UUID, customer_id: UUID) -> Customer:
    return accounts.get_customer(organization_id=organization_id, customer_id=customer_id)


def _snapshot(organization_id: UUID, customer_id: UUID) -> dict[str, object]:
    customer = _read(organization_id, customer_id)
    return {
        "organization": encode_id("org", organization_id),
        "customer": encode_id("cus", customer_id),
        "state": customer.state,
        # To the microsecond: a freeze that was set anew is another one.
        "frozen_at": f"{customer.frozen_at:%Y-%m-%d %H:%M:%S.%f} UTC" if customer.frozen_at else "",
        "frozen_by": customer.frozen_by,
        "set_by": _set_by(customer),
    }


def _facts(organization_id: UUID, customer_id: UUID) -> Facts:
    return Facts(conditions={"set_by": _set_by(_read(organization_id, customer_id))})


def _set_by(customer: Customer) -> str:
    return _COMPLIANCE if customer.is_frozen_by_compliance else _OTHERS


def _describe(organization_id: UUID, customer_ids: Sequence[UUID]) -> dict[UUID, Mapping[str, str]]:
    rows = accounts.list_customers(organization_id=organization_id).filter(id__in=customer_ids)
    return {customer.id: _told(customer) for customer in rows.select_related("organization")}


def _told(customer: Customer) -> dict[str, str]:
    printed = encode_id("cus", customer.id)
    frozen_at = customer.frozen_at
    zone = customer.organization.time_zone
    return {
        "title": f"Lift the freeze of customer {customer.external_id or printed}",
        "customer": printed,
        "frozen": wall_text(frozen_at, zone=zone) if frozen_at else "not any more",
        "set by": "compliance, who alone lift it" if customer.is_frozen_by_compliance else "",
    }


def _on_approved(told: Resolution) -> None:
    request = requests.get_request(organization_id=told.organization_id, request_id=told.request_id)
    customers.unfreeze_customer(
        organization_id=told.organization_id,
        customer_id=told.subject_id,
        requested_by=request.requester_principal,
        reason=told.reason,
        actor=told.actor,
        now=told.now,
    )


def _on_ended(told: Resolution) -> None:
    """Leave the customer frozen: nothing was changed by asking."""
    log.info("customer_stays_frozen", customer_id=str(told.subject_id))
