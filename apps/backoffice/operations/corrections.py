"""
Asking two people to correct the books: to undo an entry, or to post one by hand (ADR 0072).

What is asked is a row of its own, so that people agree to just that. The ledger refuses for itself
what may not be corrected by hand, and if the two are one person.
"""

from datetime import datetime
from typing import cast
from uuid import UUID

from apps.accounts import queries as accounts
from apps.approvals import operations as approvals
from apps.backoffice import errors, queries
from apps.backoffice.models import Correction, CorrectionKind
from apps.backoffice.operations._asking import asked_before, open_request
from apps.backoffice.operations.correction_acts import (
    ACTS,
    ADJUST_ACT,
    REVERSE_ACT,
    close,
    leg_of,
    opposite_of,
)
from apps.backoffice.states import CorrectionState
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from apps.ledger.operations import EntryRequest, ReversalTime
from apps.ledger.registry import AskedFor


@transactions.outermost
def request_reversal(
    *,
    organization_id: UUID,
    entry_id: UUID,
    at: ReversalTime,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> AskedFor:
    """
    Ask for an entry to be undone; it is, once another person agrees.

    Whether the money is there is decided then. Replaying the key returns the request as it is now.

    :raises CapabilityMissing: if the actor is staff who may not ask for it
    :raises JournalEntryNotFound: if the organisation has no such entry
    :raises AlreadyReversed, NotReversible, LedgerAccountReserved: if it cannot be undone by hand
    :raises ReversalAskedForAlready: if a request for it waits already
    :raises TwoPeopleNeeded: if the policy in force asks nobody else
    """
    claim = idempotency.claim(
        organization_id, idempotency_key, "request_reversal", entry_id, at, reason, prefix="apr"
    )
    if claim.replayed:
        return asked_before(organization_id, claim.resource_id)
    accounts.require_capability(
        actor=actor, capability=REVERSE_ACT, organization_id=organization_id
    )
    entries = ledger.prepare_reversal(organization_id=organization_id, entry_id=entry_id)
    correction = Correction(
        id=new_id(),
        organization_id=organization_id,
        kind=CorrectionKind.REVERSAL,
        entry_id=entry_id,
        at=at,
        legs=opposite_of(entries),
        reason=reason,
        requested_by=actor.principal,
        requested_at=now,
    )
    _insert(correction)
    return _ask(correction, idempotency_key=idempotency_key, actor=actor, now=now)


@transactions.outermost
def request_adjustment(
    *,
    organization_id: UUID,
    entry: EntryRequest,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> AskedFor:
    """
    Ask for an entry to be posted by hand; it is, once another person agrees.

    Whether the money is there is decided then. Replaying the key returns the request as it is now.

    :raises CapabilityMissing: if the actor is staff who may not ask for it
    :raises EntryNotBalanced: if the legs do not sum to zero in each currency
    :raises LedgerAccountNotFound: if the organisation has no such account
    :raises LedgerAccountReserved: if no correction by hand reaches one of them
    :raises TwoPeopleNeeded: if the policy in force asks nobody else
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "request_adjustment",
        [list(leg) for leg in entry.legs],
        entry.reference,
        entry.description,
        entry.effective_at,
        reason,
        prefix="apr",
    )
    if claim.replayed:
        return asked_before(organization_id, claim.resource_id)
    accounts.require_capability(actor=actor, capability=ADJUST_ACT, organization_id=organization_id)
    ledger.prepare_adjustment(organization_id=organization_id, entry=entry)
    codes = books.codes_of(
        organization_id=organization_id, account_ids=[leg.account_id for leg in entry.legs]
    )
    correction = Correction(
        id=new_id(),
        organization_id=organization_id,
        kind=CorrectionKind.ADJUSTMENT,
        legs=[
            leg_of(leg.account_id, codes[leg.account_id], leg.amount_minor, leg.currency)
            for leg in entry.legs
        ],
        reference=entry.reference or "",
        description=entry.description,
        effective_at=entry.effective_at,
        reason=reason,
        requested_by=actor.principal,
        requested_at=now,
    )
    correction.save(force_insert=True)
    return _ask(correction, idempotency_key=idempotency_key, actor=actor, now=now)


@transactions.outermost
def withdraw_correction(
    *,
    organization_id: UUID,
    correction_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> Correction:
    """
    Take back what was asked for: nothing is posted, and it can be asked for anew.

    Replaying the key returns the correction as it is now.

    :raises CorrectionNotFound: if the organisation has no such correction
    :raises CapabilityMissing: if the actor is staff who may not ask for such a one
    :raises CorrectionClosed: if it was posted or dropped before
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "withdraw_correction",
        correction_id,
        reason,
        prefix="cor",
        acts_on=correction_id,
    )
    correction = queries.get_correction_for_update(
        organization_id=organization_id, correction_id=correction_id
    )
    if claim.replayed:
        return correction
    act = ACTS[correction.kind]
    accounts.require_capability(actor=actor, capability=act, organization_id=organization_id)
    if correction.state != CorrectionState.WAITING:
        raise errors.CorrectionClosed("This is closed already.", state=correction.state)
    approvals.withdraw_approval(
        organization_id=organization_id, act=act, subject_id=correction_id, actor=actor, now=now
    )
    close(correction, CorrectionState.DROPPED, now=now)
    audit.record(act, correction, actor=actor, reason=reason, after={"state": correction.state})
    return correction


def _insert(correction: Correction) -> None:
    """Insert a reversal, unless one of the same entry waits."""
    # Two may ask at once: the first insert wins, and the other is told which one waits.
    Correction.objects.bulk_create([correction], ignore_conflicts=True)
    waiting = queries.find_waiting_reversal(
        organization_id=correction.organization_id, entry_id=cast("UUID", correction.entry_id)
    )
    if waiting is not None and waiting.id != correction.id:
        raise errors.ReversalAskedForAlready(
            "This waits for a second person already.", correction=encode_id("cor", waiting.id)
        )


def _ask(correction: Correction, *, idempotency_key: str, actor: Actor, now: datetime) -> AskedFor:
    # The row is this transaction's own until it commits: nobody else sees it, let alone locks it.
    act = ACTS[correction.kind]
    request = open_request(
        act,
        organization_id=correction.organization_id,
        subject_id=correction.id,
        idempotency_key=idempotency_key,
        actor=actor,
        now=now,
    )
    # Told on the entry's own page, where there is one already.
    subject = (
        ("ledger.journalentry", str(correction.entry_id)) if correction.entry_id else correction
    )
    audit.record(
        act,
        subject,
        organization_id=correction.organization_id,
        actor=actor,
        reason=correction.reason,
        after={"approval": encode_id("apr", request.id)},
    )
    return AskedFor(request.id, request.state)
