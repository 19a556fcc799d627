"""
Asking two people to correct the books: to undo an entry, or to post one by hand (ADR 0072).

What is asked is a row of its own, so that people agree to just that. The ledger refuses for itself
what may not be corrected by hand, and if the two are one person.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import structlog

from apps.accounts import queries as accounts
from apps.accounts.roles import Role
from apps.approvals import errors as approval_errors
from apps.approvals import operations as approvals
from apps.approvals import registry
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import Facts, Policy, Step
from apps.backoffice import errors, queries
from apps.backoffice.models import Correction, CorrectionKind
from apps.backoffice.operations._asking import asked_before, open_request
from apps.backoffice.states import CorrectionState
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import decode_id, encode_id, new_id
from apps.core.money import format_minor
from apps.ledger import operations as ledger
from apps.ledger import queries as books
from apps.ledger.operations import EntryRequest, ReversalTime
from apps.ledger.queries import EntryView
from apps.ledger.registry import AskedFor
from apps.ledger.rules import Leg

log = structlog.stdlib.get_logger("kassa.backoffice")

REVERSE_ACT = "ledger.reverse_entry"
ADJUST_ACT = "ledger.adjust"
ACTS = {CorrectionKind.REVERSAL.value: REVERSE_ACT, CorrectionKind.ADJUSTMENT.value: ADJUST_ACT}


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
        legs=_opposite(entries),
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
            _leg(leg.account_id, codes[leg.account_id], leg.amount_minor, leg.currency)
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
        organization_id, idempotency_key, "withdraw_correction", correction_id, reason
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
    _close(correction, CorrectionState.DROPPED, now=now)
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


def _opposite(entries: Iterable[EntryView]) -> list[dict[str, object]]:
    return [
        _leg(p.account_id, p.code, -p.amount_minor, p.currency)
        for entry in entries
        for p in entry.postings
    ]


def _leg(account_id: UUID, code: str, amount_minor: int, currency: str) -> dict[str, object]:
    return {
        "account": encode_id("la", account_id),
        "code": code,
        "amount_minor": amount_minor,
        "currency": currency,
    }


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


def _close(correction: Correction, state: CorrectionState, *, now: datetime) -> None:
    correction.state, correction.closed_at = state, now
    correction.save(update_fields=["state", "closed_at", "approved_by", "posted"])


# --- What approvals asks of us ------------------------------------------------------------------


def register_correction_acts() -> None:
    """Make both acts known: by default one person who may decide them has to agree."""
    for name, post in ((REVERSE_ACT, _reverse), (ADJUST_ACT, _adjust)):
        registry.register(
            Act(
                name=name,
                subject_type="correction",
                capability=name,
                default_policy=Policy(otherwise=(Step(Role.FINANCE_APPROVER, 1),)),
                lock=_lock,
                snapshot=_snapshot,
                facts=_facts,
                describe=_describe,
                on_approved=_posting_with(post),
                on_denied=_on_ended,
                on_expired=_on_ended,
            )
        )


def _lock(organization_id: UUID, correction_id: UUID) -> None:
    queries.get_correction_for_update(organization_id=organization_id, correction_id=correction_id)


def _snapshot(organization_id: UUID, correction_id: UUID) -> dict[str, object]:
    correction = queries.get_correction(
        organization_id=organization_id, correction_id=correction_id
    )
    return {
        "organization": encode_id("org", organization_id),
        "correction": encode_id("cor", correction.id),
        "entry": encode_id("je", correction.entry_id) if correction.entry_id else "",
        "business_time": _when(correction),
        "reference": correction.reference,
        "description": correction.description,
        "reason": correction.reason,
        **{f"posting_{number}": _said(leg) for number, leg in enumerate(correction.legs, 1)},
    }


def _facts(organization_id: UUID, correction_id: UUID) -> Facts:
    correction = queries.get_correction(
        organization_id=organization_id, correction_id=correction_id
    )
    moved = queries.sums_moved(correction)
    if len(moved) > 1:
        # A band is of one currency: what moves several is asked about like the largest amount.
        return Facts()
    [(currency, amount_minor)] = moved.items()
    return Facts(amount_minor=amount_minor, currency=currency)


def _describe(
    organization_id: UUID, correction_ids: Sequence[UUID]
) -> dict[UUID, Mapping[str, str]]:
    return {
        correction.id: {
            "title": f"{_VERBS[correction.kind]} {_moved(correction)}",
            "entry": encode_id("je", correction.entry_id) if correction.entry_id else "",
            "business time": _when(correction),
            "why": correction.reason,
        }
        for correction in queries.corrections(organization_id=organization_id, ids=correction_ids)
    }


_VERBS = {
    CorrectionKind.REVERSAL.value: "Reverse",
    CorrectionKind.ADJUSTMENT.value: "Adjust the books by",
}


def _moved(correction: Correction) -> str:
    moved = queries.sums_moved(correction)
    return ", ".join(format_minor(amount, currency) for currency, amount in sorted(moved.items()))


def _when(correction: Correction) -> str:
    if correction.at == "original":
        return "that of the entry"
    if correction.effective_at is not None:
        return f"{correction.effective_at:%Y-%m-%d %H:%M:%S} UTC"
    return "when it is agreed to"


def _said(leg: Mapping[str, Any]) -> str:
    side = "debit" if leg["amount_minor"] > 0 else "credit"
    return f"{side} {format_minor(abs(leg['amount_minor']), leg['currency'])} on {leg['code']}"


def _posting_with(
    post: Callable[[Correction, Resolution], UUID],
) -> Callable[[Resolution], None]:
    def on_approved(told: Resolution) -> None:
        correction = queries.get_correction(
            organization_id=told.organization_id, correction_id=told.subject_id
        )
        correction.posted_id = post(correction, told)
        correction.approved_by = told.actor.principal
        _close(correction, CorrectionState.POSTED, now=told.now)

    return on_approved


def _reverse(correction: Correction, told: Resolution) -> UUID:
    entry_id = cast("UUID", correction.entry_id)
    # Of an exchange that may be the other entry too, or no longer: people agreed to what they saw.
    entries = ledger.prepare_reversal(organization_id=told.organization_id, entry_id=entry_id)
    if _opposite(entries) != correction.legs:
        raise approval_errors.ApprovalStale(
            "What this would undo changed since it was asked for: withdraw it, and ask anew."
        )
    return ledger.reverse_by_hand(
        organization_id=told.organization_id,
        entry_id=entry_id,
        at=cast("ReversalTime", correction.at),
        requested_by=correction.requested_by,
        approved_by=told.actor.principal,
        reason=told.reason,
        actor=told.actor,
        now=told.now,
    )


def _adjust(correction: Correction, told: Resolution) -> UUID:
    return ledger.adjust(
        organization_id=told.organization_id,
        entry=EntryRequest(
            legs=tuple(_legs(correction.legs)),
            reference=correction.reference or None,
            description=correction.description,
            effective_at=correction.effective_at,
        ),
        requested_by=correction.requested_by,
        approved_by=told.actor.principal,
        reason=told.reason,
        actor=told.actor,
        now=told.now,
    )


def _legs(stored: Iterable[Mapping[str, Any]]) -> Iterable[Leg]:
    for leg in stored:
        yield Leg(decode_id("la", leg["account"]), leg["amount_minor"], leg["currency"])


def _on_ended(told: Resolution) -> None:
    """Drop it: nothing was posted by asking."""
    correction = queries.get_correction(
        organization_id=told.organization_id, correction_id=told.subject_id
    )
    _close(correction, CorrectionState.DROPPED, now=told.now)
    log.info("correction_dropped", correction_id=str(correction.id))
