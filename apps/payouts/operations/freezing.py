"""The cut-off: what is scheduled for a day becomes one batch, and nothing joins or leaves it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.conf import settings

from apps.accounts import queries as accounts
from apps.accounts.states import CustomerState
from apps.approvals import queries as approvals
from apps.banking import queries as banking
from apps.banking.formats.characters import convert
from apps.banking.formats.pain001 import NAME_MAX, REMITTANCE_MAX
from apps.core import audit, encryption, outbox, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id, new_ids
from apps.payouts import events, queries
from apps.payouts.models import (
    Destination,
    DestinationVersion,
    Payout,
    PayoutAttempt,
    PayoutBatch,
)
from apps.payouts.operations._moves import enqueue, move_payouts, publish_all
from apps.payouts.operations._progress import digests_of, go_on, next_day
from apps.payouts.queries import BatchKey, Clear
from apps.payouts.rules import CutOff, missed_its_day
from apps.payouts.states import PAUSED, AttemptState, BatchState, DestinationState, PayoutState

_ADDRESS_PARTS: Final = ("street", "building", "post_code", "town", "country")


@transactions.outermost
def freeze_batch(*, key: BatchKey, actor: Actor, now: datetime) -> PayoutBatch | None:
    """
    Freeze the payouts scheduled under this key into a batch; None if there is none fit to go.

    At most `PAYOUT_BATCH_MAX` go into one; asked again, the rest make the next. Those whose day is
    over at the bank move to the next open day instead, and say so. What is unfit becomes held.

    :raises CapabilityMissing: if the actor is staff without `payouts.freeze_batch`
    """
    accounts.require_capability(
        actor=actor, capability="payouts.freeze_batch", organization_id=key.organization_id
    )
    payouts = queries.lock_scheduled(key=key, limit=settings.PAYOUT_BATCH_MAX)
    if not payouts:
        return None
    if _put_off(payouts, key=key, actor=actor, now=now):
        return None
    fit = _hold_unfit(payouts, actor=actor, now=now)
    if not fit:
        return None
    batch = _insert_batch(fit, key=key, actor=actor, now=now)
    _insert_attempts(fit, batch, now=now)
    move_payouts(fit, PayoutState.BATCHED, actor=actor, now=now, reason=encode_id("pb", batch.id))
    audit.record(
        "payouts.freeze_batch",
        batch,
        actor=actor,
        after={"count": batch.attempt_count, "total": batch.total_minor},
    )
    enqueue(batch, "export")
    return batch


def _put_off(payouts: Sequence[Payout], *, key: BatchKey, actor: Actor, now: datetime) -> bool:
    """Move payouts whose day is over to the next open one; True if that is what they needed."""
    account = banking.get_bank_account(
        organization_id=key.organization_id, bank_account_id=key.bank_account_id
    )
    cut_off = CutOff(at=account.cut_off, zone=account.zone)
    if not missed_its_day(execution_day=key.execution_date, now=now, cut_off=cut_off):
        return False
    _, day = next_day(
        organization_id=key.organization_id,
        currency=key.currency,
        bank_account_id=key.bank_account_id,
        now=now,
    )
    for payout in payouts:
        payout.execution_date = day
        payout.event_sequence += 1
    Payout.objects.bulk_update(payouts, ["execution_date", "event_sequence"], batch_size=1000)
    # They stay scheduled, so history has no move to show; the event and the trail say the new day.
    publish_all(payouts, PayoutState.SCHEDULED, actor=actor, now=now)
    audit.record(
        "payouts.put_off",
        ("payouts.payout", encode_id("po", payouts[0].id)),
        organization_id=key.organization_id,
        actor=actor,
        before={"execution_date": key.execution_date.isoformat()},
        after={"execution_date": day.isoformat(), "count": len(payouts)},
    )
    return True


# --- Fitness ------------------------------------------------------------------------------------


def _hold_unfit(payouts: Sequence[Payout], *, actor: Actor, now: datetime) -> list[Payout]:
    """Hold what may not leave now, and return the rest in order."""
    organization_id = payouts[0].organization_id
    facts = _Facts.read(payouts)
    reasons = {payout.id: facts.unfit(payout, now=now) for payout in payouts}
    for reason in sorted({reason for reason in reasons.values() if reason}):
        move_payouts(
            [payout for payout in payouts if reasons[payout.id] == reason],
            PayoutState.HELD,
            actor=actor,
            now=now,
            values={"hold_reasons": [reason]},
        )
    fit = [payout for payout in payouts if not reasons[payout.id]]
    lapsed = _lapsed(fit, organization_id=organization_id)
    for payout in (payout for payout in fit if payout.id in lapsed):
        move_payouts(
            [payout],
            PayoutState.HELD,
            actor=actor,
            now=now,
            reason="approval_lapsed",
            values={"hold_reasons": ["under_review"]},
        )
        go_on(payout, actor=actor, now=now)
    return [payout for payout in fit if payout.id not in lapsed]


@dataclass(frozen=True)
class _Facts:
    """What the freeze looks at again, read after the payouts' locks."""

    destinations: Mapping[UUID, Destination]
    versions: Mapping[UUID, DestinationVersion]
    open_customers: frozenset[UUID]

    @classmethod
    def read(cls, payouts: Sequence[Payout]) -> "_Facts":
        organization_id = payouts[0].organization_id
        customers = accounts.list_customers(organization_id=organization_id).filter(
            id__in={payout.customer_id for payout in payouts}, state=CustomerState.OPEN
        )
        destinations = queries.list_destinations(organization_id=organization_id).filter(
            id__in={payout.destination_id for payout in payouts}
        )
        return cls(
            destinations={row.id: row for row in destinations},
            versions=queries.list_versions(
                organization_id=organization_id,
                version_ids={payout.destination_version_id for payout in payouts},
            ),
            open_customers=frozenset(customers.values_list("id", flat=True)),
        )

    def unfit(self, payout: Payout, *, now: datetime) -> str:
        """Return why a payout may not leave now, as the client may know it, or nothing."""
        if payout.customer_id not in self.open_customers:
            return PAUSED
        if self.destinations[payout.destination_id].state != DestinationState.VERIFIED:
            return "destination_unverified"
        version = self.versions[payout.destination_version_id]
        if version.retired_at is not None or version.usable_from > now:
            return "destination_unverified"
        return ""


def _lapsed(payouts: Sequence[Payout], *, organization_id: UUID) -> frozenset[UUID]:
    """Return the payouts that are not what was agreed to, or whose approvers have left."""
    if not payouts:
        return frozenset()
    digests = digests_of(payouts)
    changed = {
        payout.id
        for payout in payouts
        if payout.agreed_digest is None or bytes(payout.agreed_digest) != digests[payout.id]
    }
    asked = {
        payout.approval_request_id: payout.id
        for payout in payouts
        if payout.approval_request_id is not None
    }
    fallen = approvals.find_lapsed(
        organization_id=organization_id,
        digests={request: digests[payout] for request, payout in asked.items()},
    )
    return frozenset(changed | {asked[request] for request in fallen})


# --- The batch ----------------------------------------------------------------------------------


def _insert_batch(
    payouts: Sequence[Payout], *, key: BatchKey, actor: Actor, now: datetime
) -> PayoutBatch:
    id_ = new_id()
    batch = PayoutBatch.objects.create(
        id=id_,
        organization_id=key.organization_id,
        bank_account_id=key.bank_account_id,
        currency=key.currency,
        rail=key.rail,
        execution_date=key.execution_date,
        # From the batch's own id, so that writing the file again gives the same bytes.
        message_id=id_.hex,
        payment_information_id=f"{id_.hex}-1",
        attempt_count=len(payouts),
        total_minor=sum(payout.amount_minor for payout in payouts),
        frozen_by=str(actor),
        frozen_at=now.replace(microsecond=0),
        state=BatchState.FROZEN,
    )
    outbox.publish(events.PayoutBatchMoved.of(batch, now=now), actor=actor, now=now)
    return batch


def _insert_attempts(payouts: Sequence[Payout], batch: PayoutBatch, *, now: datetime) -> None:
    versions = queries.list_versions(
        organization_id=batch.organization_id,
        version_ids={payout.destination_version_id for payout in payouts},
    )
    seal, clear = encryption.sealer(batch.organization_id), Clear(batch.organization_id)
    attempts = []
    for number, (id_, payout) in enumerate(zip(new_ids(len(payouts)), payouts, strict=True), 1):
        version = versions[payout.destination_version_id]
        sent, changed = _what_is_sent(payout, version, clear)
        attempt = _attempt(id_, payout, version, batch, now=now)
        attempt.number_in_file, attempt.changed_fields = number, changed
        text = json.dumps(sent, sort_keys=True, ensure_ascii=False)
        attempt.sent_sealed = seal(queries.SENT_COLUMN, id_, text)
        attempts.append(attempt)
    PayoutAttempt.objects.bulk_create(attempts, batch_size=1000)


def _attempt(
    id_: UUID,
    payout: Payout,
    version: DestinationVersion,
    batch: PayoutBatch,
    *,
    now: datetime,
) -> PayoutAttempt:
    return PayoutAttempt(
        id=id_,
        organization_id=batch.organization_id,
        payout_id=payout.id,
        batch_id=batch.id,
        destination_version_id=version.id,
        state=AttemptState.BATCHED,
        amount_minor=payout.amount_minor,
        currency=payout.currency,
        end_to_end_id=id_.hex,
        state_changed_at=now,
    )


def _what_is_sent(
    payout: Payout, version: DestinationVersion, clear: Clear
) -> tuple[dict[str, object], list[str]]:
    """Return the texts as the bank will read them, and the names of those that were changed."""
    given: dict[str, tuple[str, int]] = {
        "name": (clear.holder(version), NAME_MAX),
        "remittance": (payout.remittance, REMITTANCE_MAX),
    }
    address = clear.address(version)
    for part in _ADDRESS_PARTS if address else ():
        given[part] = (str(address.get(part) or ""), NAME_MAX)
    converted = {name: convert(text, length_max=most) for name, (text, most) in given.items()}
    sent: dict[str, object] = {name: one.text for name, one in converted.items()}
    lines = [convert(str(line), length_max=NAME_MAX) for line in address.get("lines") or ()]
    sent["lines"] = [line.text for line in lines if line.text]
    changed = [name for name, one in converted.items() if one.is_changed]
    if any(line.is_changed for line in lines):
        changed.append("lines")
    return sent, sorted(changed)
