"""Where money may go: destinations are made, verified, suspended and disabled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from apps.accounts import queries as accounts
from apps.accounts.states import CustomerState
from apps.banking.formats.characters import convert
from apps.core import audit, encryption, idempotency, outbox, transactions
from apps.core.actors import Actor
from apps.core.errors import InvalidInput
from apps.core.ids import encode_id, new_id
from apps.payouts import errors, events, queries
from apps.payouts.models import Destination, DestinationVersion
from apps.payouts.operations._ending import cancel_all
from apps.payouts.rules import (
    SEPA_COUNTRIES,
    IbanRefusedError,
    address_fault,
    bic_agrees,
    read_iban,
)
from apps.payouts.states import DESTINATION_MOVES, DestinationState

# Two requests for one account at once: the loser runs again and finds the winner's.
transactions.run_again_on_unique("destination_fingerprint_in_use_is_one")

_CURRENCY = "EUR"
_EVENT = {
    DestinationState.VERIFIED: events.DestinationVerified,
    DestinationState.SUSPENDED: events.DestinationSuspended,
    DestinationState.DISABLED: events.DestinationDisabled,
}


@dataclass(frozen=True, kw_only=True)
class DestinationDetails:
    """A customer's bank account as it was given; `address` holds town, country and the rest."""

    customer_id: UUID
    iban: str
    holder_name: str
    currency: str
    bic: str = ""
    address: Mapping[str, object] | None = None


@transactions.outermost
def create_destination(
    *,
    organization_id: UUID,
    details: DestinationDetails,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Destination:
    """
    Add a bank account to which this customer may be paid, usable after the cooldown.

    Replaying the key returns the destination as it is now.

    :raises InvalidIban: naming the cause
    :raises BicMismatch: if the BIC is of another bank
    :raises UnstructuredAddress: if the address lacks town or country, or has too many lines
    :raises UnsupportedCountry: if the account is outside the SEPA zone
    :raises UnsupportedCurrency: for anything but euro
    :raises CustomerNotFound: if the organization has no such customer
    :raises DestinationExists: if the customer has this account already
    """
    iban = _checked_iban(details)
    fingerprint = encryption.blind_index(organization_id, "iban", iban)
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "create_destination",
        details.customer_id,
        fingerprint,
        encryption.blind_index(organization_id, "holder", details.holder_name),
        details.currency,
        details.bic,
        _address_digest(organization_id, details.address),
        prefix="dst",
    )
    if claim.replayed:
        return queries.get_destination(
            organization_id=organization_id, destination_id=claim.resource_id
        )
    _refuse_unpayable(details, organization_id=organization_id, country=iban[:2])
    known = queries.find_destination_of(
        organization_id=organization_id, customer_id=details.customer_id, fingerprint=fingerprint
    )
    if known is not None:
        raise errors.DestinationExists(
            "The customer has this account already.", destination=encode_id("dst", known)
        )
    destination = Destination.objects.create(
        id=claim.resource_id,
        organization_id=organization_id,
        customer_id=details.customer_id,
        created_by=str(actor),
        created_at=now,
    )
    version = _add_version(destination, details, iban=iban, actor=actor, now=now)
    audit.record(
        "payouts.create_destination", destination, actor=actor, after={"iban_tail": iban[-4:]}
    )
    _publish(events.DestinationCreated, destination, version, actor=actor, now=now)
    # No payee check is connected yet, so nothing would ever verify it: the state says what a
    # payout needs to know, `state_reason` says on what ground (ADR 0031).
    move_destination(
        destination, DestinationState.VERIFIED, reason="payee_not_checked", actor=actor, now=now
    )
    return destination


def _checked_iban(details: DestinationDetails) -> str:
    try:
        iban = read_iban(details.iban)
    except IbanRefusedError as refused:
        raise errors.InvalidIban(
            "This is not an IBAN.",
            cause=refused.cause,
            errors=[{"pointer": "/iban", "detail": f"Wrong: {refused.cause}."}],
        ) from None
    if details.bic and not bic_agrees(iban=iban, bic=details.bic):
        raise errors.BicMismatch(
            "This BIC is of another bank.",
            errors=[{"pointer": "/bic", "detail": "Not the bank of this IBAN."}],
        )
    fault = address_fault(details.address) if details.address is not None else None
    if fault is not None:
        raise errors.UnstructuredAddress(
            "An address has town and country, and at most two lines of 70 characters.",
            cause=fault,
            errors=[{"pointer": "/address", "detail": fault}],
        )
    if convert(details.holder_name, length_max=70).is_meaningless:
        raise InvalidInput(
            "The name has no letter that a bank can write.",
            errors=[{"pointer": "/holder_name", "detail": "Nothing a bank can write."}],
        )
    return iban


def _refuse_unpayable(details: DestinationDetails, *, organization_id: UUID, country: str) -> None:
    if details.currency != _CURRENCY:
        raise errors.UnsupportedCurrency("Only euro is paid out.", currency=details.currency)
    if country not in SEPA_COUNTRIES:
        raise errors.UnsupportedCountry("This country is outside the SEPA zone.", country=country)
    customer = accounts.get_customer(
        organization_id=organization_id, customer_id=details.customer_id
    )
    if customer.state == CustomerState.CLOSED:
        raise errors.AccountFrozen("This customer is closed.", state=customer.state)


def _address_digest(organization_id: UUID, address: Mapping[str, object] | None) -> bytes | None:
    if address is None:
        return None
    return encryption.blind_index(organization_id, "address", _address_text(address))


def _address_text(address: Mapping[str, object]) -> str:
    return json.dumps(dict(address), sort_keys=True, ensure_ascii=False)


def _add_version(
    destination: Destination,
    details: DestinationDetails,
    *,
    iban: str,
    actor: Actor,
    now: datetime,
) -> DestinationVersion:
    organization_id, id_ = destination.organization_id, new_id()
    sealed_address = None
    if details.address is not None:
        sealed_address = encryption.seal(
            organization_id, queries.ADDRESS_COLUMN, id_, _address_text(details.address)
        )
    return DestinationVersion.objects.create(
        id=id_,
        organization_id=organization_id,
        destination_id=destination.id,
        customer_id=destination.customer_id,
        number=1,
        fingerprint=encryption.blind_index(organization_id, "iban", iban),
        iban_sealed=encryption.seal(organization_id, queries.IBAN_COLUMN, id_, iban),
        iban_tail=iban[-4:],
        country=iban[:2],
        bic=details.bic,
        currency=details.currency,
        holder_sealed=encryption.seal(
            organization_id, queries.HOLDER_COLUMN, id_, details.holder_name
        ),
        holder_digest=encryption.blind_index(organization_id, "holder", details.holder_name),
        address_sealed=sealed_address,
        address_digest=_address_digest(organization_id, details.address),
        usable_from=now + timedelta(hours=settings.PAYOUT_COOLDOWN_HOURS),
        created_by=str(actor),
        created_at=now,
    )


@transactions.outermost
def disable_destination(
    *,
    organization_id: UUID,
    destination_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Destination:
    """
    Disable a destination for good, and cancel every payout to it that is in no bank file yet.

    Replaying the key, or disabling it again, returns the destination as it is.

    :raises DestinationNotFound: if the organization has no such destination
    :raises CapabilityMissing: if the actor is staff without `payouts.freeze_destination`
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "disable_destination",
        destination_id,
        reason,
        prefix="dst",
        acts_on=destination_id,
    )
    accounts.require_capability(
        actor=actor, capability="payouts.freeze_destination", organization_id=organization_id
    )
    destination = queries.get_destination_for_update(
        organization_id=organization_id, destination_id=destination_id
    )
    if claim.replayed or destination.state == DestinationState.DISABLED:
        return destination
    audit.record("payouts.disable_destination", destination, actor=actor, reason=reason)
    disable(destination, reason="disabled_on_request", actor=actor, now=now)
    return destination


def disable(destination: Destination, *, reason: str, actor: Actor, now: datetime) -> None:
    """Disable a locked destination: its account may be added anew, its payouts are canceled."""
    move_destination(destination, DestinationState.DISABLED, reason=reason, actor=actor, now=now)
    DestinationVersion.objects.filter(
        organization_id=destination.organization_id,
        destination_id=destination.id,
        retired_at__isnull=True,
    ).update(retired_at=now)
    waiting = queries.lock_payouts_to(
        organization_id=destination.organization_id, destination_ids=[destination.id]
    )
    cancel_all(waiting, code="destination_changed", actor=actor, now=now)


def move_destination(
    destination: Destination,
    state: DestinationState,
    *,
    reason: str,
    actor: Actor,
    now: datetime,
) -> None:
    """Move a locked destination, unless it is there or beyond; published and audited."""
    if state not in DESTINATION_MOVES[DestinationState(destination.state)]:
        return
    before = destination.state
    destination.state, destination.state_reason = state, reason
    destination.event_sequence += 1
    destination.save(update_fields=["state", "state_reason", "event_sequence"])
    audit.record(
        "payouts.move_destination",
        destination,
        actor=actor,
        reason=reason,
        before={"state": before},
        after={"state": state},
    )
    version = queries.get_version_in_use(destination)
    outbox.publish(_EVENT[state].of(destination, version, now=now), actor=actor, now=now)


def _publish(
    kind: type[events.DestinationEvent],
    destination: Destination,
    version: DestinationVersion,
    *,
    actor: Actor,
    now: datetime,
) -> None:
    destination.event_sequence += 1
    destination.save(update_fields=["event_sequence"])
    outbox.publish(kind.of(destination, version, now=now), actor=actor, now=now)
