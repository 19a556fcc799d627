"""
What approvals asks of a correction: what is decided about, and what is posted once it is agreed to.

The act runs in the transaction of the last vote (ADR 0072).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import structlog

from apps.accounts.roles import Role
from apps.approvals import errors as approval_errors
from apps.approvals import registry
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import Facts, Policy, Step
from apps.backoffice import queries
from apps.backoffice.models import Correction, CorrectionKind
from apps.backoffice.states import CorrectionState
from apps.core.ids import decode_id, encode_id
from apps.core.money import format_minor
from apps.core.wall_clock import wall_text
from apps.ledger import operations as ledger
from apps.ledger.operations import EntryRequest, ReversalTime
from apps.ledger.queries import EntryView
from apps.ledger.rules import Leg

log = structlog.stdlib.get_logger("kassa.backoffice")

REVERSE_ACT = "ledger.reverse_entry"
ADJUST_ACT = "ledger.adjust"
ACTS = {CorrectionKind.REVERSAL.value: REVERSE_ACT, CorrectionKind.ADJUSTMENT.value: ADJUST_ACT}


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
            "business time": _when(correction, zone=correction.organization.time_zone),
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


def _when(correction: Correction, *, zone: str = "UTC") -> str:
    # What is agreed to says UTC, for its digest; people read it by the clocks that it was typed by.
    if correction.at == "original":
        return "that of the entry"
    if correction.effective_at is not None:
        return wall_text(correction.effective_at, zone=zone)
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
        close(correction, CorrectionState.POSTED, now=told.now)

    return on_approved


def _reverse(correction: Correction, told: Resolution) -> UUID:
    entry_id = cast("UUID", correction.entry_id)
    # Of an exchange that may be the other entry too, or no longer: people agreed to what they saw.
    entries = ledger.prepare_reversal(organization_id=told.organization_id, entry_id=entry_id)
    if opposite_of(entries) != correction.legs:
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
    close(correction, CorrectionState.DROPPED, now=told.now)
    log.info("correction_dropped", correction_id=str(correction.id))


def opposite_of(entries: Iterable[EntryView]) -> list[dict[str, object]]:
    """Return the legs, as they are kept, that undo these entries."""
    return [
        leg_of(p.account_id, p.code, -p.amount_minor, p.currency)
        for entry in entries
        for p in entry.postings
    ]


def leg_of(account_id: UUID, code: str, amount_minor: int, currency: str) -> dict[str, object]:
    """Return one leg as a correction keeps it; positive is a debit, in minor units."""
    return {
        "account": encode_id("la", account_id),
        "code": code,
        "amount_minor": amount_minor,
        "currency": currency,
    }


def close(correction: Correction, state: CorrectionState, *, now: datetime) -> None:
    """Note how the correction ended, and what was posted for it."""
    correction.state, correction.closed_at = state, now
    correction.save(update_fields=["state", "closed_at", "approved_by", "posted"])
