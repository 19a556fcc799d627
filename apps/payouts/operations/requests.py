"""Asking for a payout: limits, reservation, and who or what it waits for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings

from apps.accounts import queries as accounts
from apps.accounts.states import CustomerState
from apps.banking import queries as banking
from apps.banking.formats import references
from apps.banking.formats.pain001 import AMOUNT_MINOR_MAX, REMITTANCE_MAX
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.money import Money
from apps.ledger import operations as ledger
from apps.payouts import errors, queries, rules
from apps.payouts.models import Destination, DestinationVersion, Payout, PayoutTransition
from apps.payouts.operations import _books
from apps.payouts.operations._ending import SUBJECT
from apps.payouts.operations._moves import move_payouts, publish_all
from apps.payouts.operations._progress import go_on
from apps.payouts.states import COOLDOWN, DestinationState, PayoutState
from apps.risk import operations as risk

# Two requests with one external id at once: the loser runs again and finds the winner's.
transactions.run_again_on_unique("payout_external_id_is_unique")

DUPLICATE: Final = "duplicate_suspected"
_RAIL: Final = "sct"


@dataclass(frozen=True, kw_only=True)
class PayoutDetails:
    """What is asked: an amount of a customer's money, to one of the customer's destinations."""

    customer_id: UUID
    destination_id: UUID
    money: Money
    wished_date: date | None = None
    remittance: str = ""
    creditor_reference: str = ""
    external_id: str | None = None
    purpose: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)


@transactions.outermost
def request_payout(
    *,
    organization_id: UUID,
    details: PayoutDetails,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Payout:
    """
    Reserve amount and fee of a customer, and start the payout on its way.

    It comes back `held` (new destination, likely duplicate), `pending_approval`, or `scheduled`.
    Replaying the key returns the payout as it is now.

    :raises DestinationNotFound: if this customer has no such destination
    :raises DestinationDisabled, DestinationUnverified: if nothing may go there (now)
    :raises PayoutCurrencyMismatch: if the destination is in another currency
    :raises UnsupportedCurrency: if no bank account of ours is in this currency
    :raises CalendarNotSeeded: if the wished day is beyond the years whose holidays are known
    :raises AmountTooLarge: if one instruction cannot carry it
    :raises InvalidRemittance: for text and reference at once, or a reference that is none
    :raises AccountFrozen: if the customer is frozen or closed
    :raises DuplicateExternalId: if another payout has this external id
    :raises LimitExceeded: if a hard limit does not cover it
    :raises NoLedgerAccount, InsufficientFunds: if the money is not there
    :raises CapabilityMissing: if the actor is staff without `payouts.request_payout`
    """
    _refuse_malformed(details)
    claim = idempotency.claim(
        organization_id, idempotency_key, "request_payout", vars(details), prefix="po"
    )
    if claim.replayed:
        return queries.get_payout(organization_id=organization_id, payout_id=claim.resource_id)
    accounts.require_capability(
        actor=actor, capability="payouts.request_payout", organization_id=organization_id
    )
    # Requests to one destination run one after the other: the second sees the first, which may be
    # what it repeats, and neither slips past a disabling.
    destination = queries.get_destination_for_update(
        organization_id=organization_id, destination_id=details.destination_id
    )
    version = queries.get_version_in_use(destination)
    _refuse_destination(details, destination, version)
    _refuse_circumstances(details, organization_id=organization_id)
    payout = _new(claim.resource_id, details, destination, version, actor=actor, now=now)
    payout.risk_decision_id = _admit(payout, version, actor=actor, now=now)
    accounts_of_payout = _books.accounts_of([payout], now=now)
    _insert(payout, actor=actor, now=now)
    _hold_or_go_on(payout, version, actor=actor, now=now)
    audit.record(
        "payouts.request_payout",
        payout,
        actor=actor,
        after={"amount": str(details.money), "fee": payout.fee_minor, "state": payout.state},
    )
    # Last, so that the hot balance rows are locked as briefly as can be.
    ledger.post(
        organization_id=organization_id,
        commands=_books.reserve(payout, accounts_of_payout),
        actor=actor,
        now=now,
    )
    return payout


def _refuse_malformed(details: PayoutDetails) -> None:
    fault = None
    if details.remittance and details.creditor_reference:
        fault = "A payout carries a text or a creditor reference, not both."
    elif len(details.remittance) > REMITTANCE_MAX:
        fault = f"The text has at most {REMITTANCE_MAX} characters."
    elif details.creditor_reference and not references.is_valid(details.creditor_reference):
        fault = "The creditor reference's check digits are wrong."
    if fault is not None:
        raise errors.InvalidRemittance(fault, errors=[{"pointer": "/remittance", "detail": fault}])


def _refuse_destination(
    details: PayoutDetails, destination: Destination, version: DestinationVersion
) -> None:
    if destination.customer_id != details.customer_id:
        raise errors.DestinationNotFound("There is no such destination.")
    if destination.state == DestinationState.DISABLED:
        raise errors.DestinationDisabled("This destination is disabled.")
    if destination.state != DestinationState.VERIFIED:
        raise errors.DestinationUnverified(
            "Nothing may go to this destination now.", state=destination.state
        )
    if version.currency != details.money.currency:
        raise errors.PayoutCurrencyMismatch(
            f"This destination is in {version.currency}.", currency=version.currency
        )
    if details.money.amount_minor > AMOUNT_MINOR_MAX:
        raise errors.AmountTooLarge(
            "One instruction does not carry so much.", max_amount=AMOUNT_MINOR_MAX
        )


def _refuse_circumstances(details: PayoutDetails, *, organization_id: UUID) -> None:
    customer = accounts.get_customer(
        organization_id=organization_id, customer_id=details.customer_id
    )
    if customer.state != CustomerState.OPEN:
        raise errors.AccountFrozen("Nothing leaves this customer.", state=customer.state)
    if details.external_id is not None:
        first = queries.find_by_external_id(
            organization_id=organization_id, external_id=details.external_id
        )
        if first is not None:
            raise errors.DuplicateExternalId(
                "Another payout has this external id.", payout=encode_id("po", first)
            )
    currency = details.money.currency
    if queries.find_paying_account(organization_id=organization_id, currency=currency) is None:
        raise errors.UnsupportedCurrency(
            "No bank account pays out in this currency.", currency=currency
        )
    if details.wished_date is not None:
        # Now, not when people have agreed to it: nobody could then let it go on.
        banking.get_open_days().next_open(details.wished_date)


def _new(
    id_: UUID,
    details: PayoutDetails,
    destination: Destination,
    version: DestinationVersion,
    *,
    actor: Actor,
    now: datetime,
) -> Payout:
    fee = rules.fee(
        rail=_RAIL,
        currency=details.money.currency,
        prices=queries.list_prices(organization_id=destination.organization_id, now=now),
    )
    return Payout(
        id=id_,
        organization_id=destination.organization_id,
        customer_id=details.customer_id,
        destination_id=destination.id,
        destination_version_id=version.id,
        amount_minor=details.money.amount_minor,
        requested_amount_minor=details.money.amount_minor,
        fee_minor=fee,
        currency=details.money.currency,
        rail=_RAIL,
        hold_id=new_id(),
        fee_hold_id=new_id() if fee else None,
        remittance=details.remittance,
        creditor_reference=details.creditor_reference,
        external_id=details.external_id,
        purpose=details.purpose,
        metadata=dict(details.metadata),
        wished_date=details.wished_date,
        requested_by=str(actor),
        requester_principal=actor.principal,
        requested_at=now,
        state_changed_at=now,
        event_sequence=1,
    )


def _admit(payout: Payout, version: DestinationVersion, *, actor: Actor, now: datetime) -> UUID:
    return risk.admit(
        organization_id=payout.organization_id,
        admission=risk.Admission(
            kind="payout",
            subject_type=SUBJECT,
            subject_id=payout.id,
            customer_id=payout.customer_id,
            amount_minor=payout.amount_minor,
            currency=payout.currency,
            destination_fingerprint=bytes(version.fingerprint),
        ),
        actor=actor,
        now=now,
    )


def _insert(payout: Payout, *, actor: Actor, now: datetime) -> None:
    payout.save(force_insert=True)
    PayoutTransition.objects.create(
        organization_id=payout.organization_id,
        payout_id=payout.id,
        number=1,
        from_state="",
        to_state=PayoutState.REQUESTED,
        actor=str(actor),
        occurred_at=now,
    )
    publish_all([payout], PayoutState.REQUESTED, actor=actor, now=now)


def _hold_or_go_on(
    payout: Payout, version: DestinationVersion, *, actor: Actor, now: datetime
) -> None:
    siblings = _siblings(payout, now=now)
    reasons = [COOLDOWN] if version.usable_from > now else []
    if siblings:
        reasons.append(DUPLICATE)
    if not reasons:
        go_on(payout, actor=actor, now=now)
        return
    move_payouts(
        [payout],
        PayoutState.HELD,
        actor=actor,
        now=now,
        reason=" ".join(encode_id("po", id_) for id_ in siblings),
        values={
            "hold_reasons": reasons,
            "available_at": version.usable_from if COOLDOWN in reasons else None,
        },
    )


def _siblings(payout: Payout, *, now: datetime) -> list[UUID]:
    """Return what this payout seems to repeat: same amount to the same account a moment ago."""
    recent = queries.list_recent_references(
        organization_id=payout.organization_id,
        destination_id=payout.destination_id,
        amount_minor=payout.requested_amount_minor,
        since=now - timedelta(hours=settings.PAYOUT_DUPLICATE_HOURS),
    )
    said = rules.fold_reference(payout.remittance or payout.creditor_reference)
    return [
        id_ for id_, words in recent if id_ != payout.id and rules.fold_reference(words) == said
    ]
