"""Customers: made once, frozen at once, and by two people open again."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.accounts import errors, events, queries, registry
from apps.accounts.models import Customer
from apps.accounts.roles import Role
from apps.accounts.rules import CustomerDetails
from apps.accounts.states import CustomerState
from apps.core import audit, encryption, idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id


@transactions.outermost
def create_customer(
    *,
    organization_id: UUID,
    details: CustomerDetails,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Customer:
    """
    Create a customer, and what they need in each of the currencies, in one transaction.

    Replaying the key returns the customer as it is now.

    :raises ExternalIdTaken: if the organization has a customer with this `external_id`
    """
    claim = _claim(organization_id, idempotency_key, details)
    if claim.replayed:
        return queries.get_customer(organization_id=organization_id, customer_id=claim.resource_id)

    customer = _insert(
        Customer(
            id=claim.resource_id,
            organization_id=organization_id,
            external_id=details.external_id,
            metadata=dict(details.metadata),
            event_sequence=1,
            created_at=now,
        ),
        details,
    )
    for open_for in registry.customer_openers():
        open_for(
            organization_id=organization_id,
            customer_id=customer.id,
            currencies=sorted(set(details.currencies)),
            actor=actor,
            now=now,
        )
    audit.record(
        "accounts.create_customer",
        customer,
        actor=actor,
        after={"external_id": details.external_id},
    )
    _publish(events.CustomerCreated, customer, actor=actor, now=now)
    return customer


def _claim(organization_id: UUID, key: str, details: CustomerDetails) -> idempotency.Claim:
    # Keyed digests: the key table holds nothing from which a name could be guessed.
    return idempotency.claim(
        organization_id,
        key,
        "create_customer",
        encryption.blind_index(organization_id, "customer.name", details.name),
        _email_index(organization_id, details.email),
        details.external_id,
        sorted(set(details.currencies)),
        dict(details.metadata),
        prefix="cus",
    )


def _email_index(organization_id: UUID, email: str | None) -> bytes | None:
    if email is None:
        return None
    return encryption.blind_index(organization_id, "customer.email", email.strip().lower())


def _insert(customer: Customer, details: CustomerDetails) -> Customer:
    organization_id, id_ = customer.organization_id, customer.id
    customer.name_sealed = encryption.seal(organization_id, queries.NAME_COLUMN, id_, details.name)
    if details.email is not None:
        customer.email_sealed = encryption.seal(
            organization_id, queries.EMAIL_COLUMN, id_, details.email
        )
        customer.email_index = _email_index(organization_id, details.email)
    # Two callers may race for one external id: the first insert wins, the other finds no row.
    Customer.objects.bulk_create([customer], ignore_conflicts=True)
    if not Customer.objects.filter(organization_id=organization_id, id=id_).exists():
        raise errors.ExternalIdTaken("Another customer has this external_id.")
    return customer


@transactions.outermost
def change_customer(
    *,
    organization_id: UUID,
    customer_id: UUID,
    metadata: Mapping[str, str],
    actor: Actor,
    now: datetime,
) -> Customer:
    """
    Replace the customer's metadata. The same again changes nothing, so it needs no key.

    :raises CustomerNotFound: if the organization has no such customer
    """
    customer = queries.get_customer_for_update(
        organization_id=organization_id, customer_id=customer_id
    )
    if customer.metadata == dict(metadata):
        return customer
    customer.metadata = dict(metadata)
    customer.event_sequence += 1
    customer.save(update_fields=["metadata", "event_sequence"])
    audit.record("accounts.change_customer", customer, actor=actor)
    _publish(events.CustomerUpdated, customer, actor=actor, now=now)
    return customer


@transactions.outermost
def freeze_customer(
    *,
    organization_id: UUID,
    customer_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Customer:
    """
    Freeze a customer at once: nothing of theirs leaves until two people lift it.

    Freezing a frozen customer changes nothing, but that compliance makes it their own: from then
    on they alone lift it, and what others asked for is void. An API key is nobody of compliance,
    whoever issued it. Replaying the key returns the customer as it is.

    :raises CustomerNotFound: if the organization has no such customer
    :raises CustomerNotOpen: if it is closed
    :raises CapabilityMissing: if the actor is staff without `accounts.freeze_customer`
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "freeze_customer",
        customer_id,
        reason,
        prefix="cus",
        acts_on=customer_id,
    )
    queries.require_capability(
        actor=actor, capability="accounts.freeze_customer", organization_id=organization_id
    )
    # The row lock serializes this with whoever pays out under the customer's lock.
    customer = queries.get_customer_for_update(
        organization_id=organization_id, customer_id=customer_id
    )
    if claim.replayed:
        return customer
    by_compliance = actor.kind == "staff" and _is_of_compliance(actor.principal)
    if customer.state == CustomerState.FROZEN:
        if by_compliance and not customer.is_frozen_by_compliance:
            _freeze_anew(customer, reason=reason, actor=actor, now=now)
        return customer
    if customer.state != CustomerState.OPEN:
        raise errors.CustomerNotOpen("This customer is closed.", state=customer.state)
    _note_freeze(customer, now, actor.principal, by_compliance=by_compliance)
    _move(customer, CustomerState.FROZEN)
    audit.record("accounts.freeze_customer", customer, actor=actor, reason=reason)
    _publish(events.CustomerFrozen, customer, actor=actor, now=now)
    return customer


def _freeze_anew(customer: Customer, *, reason: str, actor: Actor, now: datetime) -> None:
    # No event: a client is told that a customer is frozen, and never that compliance looks at it.
    before = {"frozen_at": str(customer.frozen_at), "frozen_by": customer.frozen_by}
    _note_freeze(customer, now, actor.principal, by_compliance=True)
    customer.save(update_fields=_FREEZE)
    audit.record("accounts.freeze_customer", customer, actor=actor, reason=reason, before=before)
    for listener in registry.refreeze_listeners():
        listener(
            organization_id=customer.organization_id, customer_id=customer.id, actor=actor, now=now
        )


@transactions.required
def prepare_unfreeze(*, organization_id: UUID, customer_id: UUID, actor: Actor) -> Customer:
    """
    Return the customer, locked, of whom this person may ask that the freeze be lifted.

    :raises CapabilityMissing: if the actor is no person, or one who may not ask for it
    :raises CustomerNotFound: if the organization has no such customer
    :raises CustomerNotFrozen: if it is not frozen
    :raises FreezeOfCompliance: if compliance set it, and the actor is not of them
    """
    _refuse_strangers(organization_id, actor=actor, deciding=False)
    return _frozen_for(organization_id, customer_id, people=[actor.principal])


@transactions.required
def unfreeze_customer(
    *,
    organization_id: UUID,
    customer_id: UUID,
    requested_by: str,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Customer:
    """
    Lift a freeze, as the last step of an approved request: two people decided it before.

    `requested_by` is the principal of who asked, `actor` who agreed. What was held meanwhile stays
    held until it is released.

    :raises CapabilityMissing: if the actor is no person, or one who may not decide it
    :raises CustomerNotFound: if the organization has no such customer
    :raises CustomerNotFrozen: if it is not frozen
    :raises FreezeOfCompliance: if compliance set it, and one of the two is not of them
    """
    _refuse_strangers(organization_id, actor=actor, deciding=True)
    customer = _frozen_for(organization_id, customer_id, people=[requested_by, actor.principal])
    _note_freeze(customer, None, "", by_compliance=False)
    _move(customer, CustomerState.OPEN)
    audit.record("accounts.unfreeze_customer", customer, actor=actor, reason=reason)
    _publish(events.CustomerUnfrozen, customer, actor=actor, now=now)
    return customer


def _refuse_strangers(organization_id: UUID, *, actor: Actor, deciding: bool) -> None:
    capability = "accounts.unfreeze_customer"
    # A job says the last word where a policy asks nobody any more, and a key where one calls this.
    if actor.kind != "staff":
        raise errors.CapabilityMissing("People lift a freeze.", capability=capability)
    queries.require_capability(
        actor=actor, capability=capability, organization_id=organization_id, deciding=deciding
    )


def _frozen_for(organization_id: UUID, customer_id: UUID, *, people: Iterable[str]) -> Customer:
    # Under the lock: who froze it may change until then, and with that whose it is to lift.
    customer = queries.get_customer_for_update(
        organization_id=organization_id, customer_id=customer_id
    )
    if customer.state != CustomerState.FROZEN:
        raise errors.CustomerNotFrozen("This customer is not frozen.", state=customer.state)
    if customer.is_frozen_by_compliance and not all(map(_is_of_compliance, people)):
        raise errors.FreezeOfCompliance("Compliance froze this customer: they alone lift it.")
    return customer


def _is_of_compliance(principal: str) -> bool:
    # Read afresh; whoever has left meanwhile keeps the roles they left with.
    kind, _, id_ = principal.partition(":")
    return kind == "staff" and Role.COMPLIANCE in queries.list_roles(staff_id=UUID(id_))


_FREEZE: Final = ("frozen_at", "frozen_by", "is_frozen_by_compliance")


def _note_freeze(
    customer: Customer, at: datetime | None, principal: str, *, by_compliance: bool
) -> None:
    customer.frozen_at, customer.frozen_by = at, principal
    customer.is_frozen_by_compliance = by_compliance


def _move(customer: Customer, state: CustomerState) -> None:
    customer.state = state
    customer.event_sequence += 1
    customer.save(update_fields=["state", *_FREEZE, "event_sequence"])


def _publish(
    kind: type[events.CustomerEvent], customer: Customer, *, actor: Actor, now: datetime
) -> None:
    printed = encode_id("cus", customer.id)
    outbox.publish(
        kind(
            organization_id=customer.organization_id,
            aggregate_id=printed,
            sequence=customer.event_sequence,
            occurred_at=now,
            id=printed,
            external_id=customer.external_id,
            state=customer.state,
        ),
        actor=actor,
        now=now,
    )
