"""How a payout goes on once nothing holds it: to people, or into the next open batch."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from apps.accounts.roles import Role
from apps.approvals import operations as approvals
from apps.approvals import registry
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import Band, Extra, Facts, Policy, Step, snapshot_digest
from apps.banking import queries as banking
from apps.core.actors import Actor
from apps.core.errors import InvariantBroken
from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.payouts import queries
from apps.payouts.models import DestinationVersion, Payout
from apps.payouts.operations._ending import SEND_ACT, end_all
from apps.payouts.operations._moves import move_payouts
from apps.payouts.rules import execution_date
from apps.payouts.states import PayoutState

_ONE = (Step(Role.FINANCE_APPROVER, 1),)
_TWO = (Step(Role.FINANCE_APPROVER, 2),)
# Up to 1,000.00 nobody, up to 50,000.00 one person, above and in other currencies two.
SEND_POLICY = Policy(
    bands={"EUR": (Band(1_000_00, ()), Band(50_000_00, _ONE), Band(None, _TWO))},
    otherwise=_TWO,
    extras=(Extra({"risk": "review"}, _ONE),),
)


def go_on(payout: Payout, *, actor: Actor, now: datetime) -> None:
    """Ask the people whom the policy names, or schedule at once; the payout is locked."""
    request = approvals.request_approval(
        organization_id=payout.organization_id,
        act=SEND_ACT,
        subject_id=payout.id,
        requester_principal=payout.requester_principal,
        actor=actor,
        now=now,
    )
    if request is None:
        schedule(payout, agreed_digest=digest_of(payout), actor=actor, now=now)
        return
    move_payouts(
        [payout],
        PayoutState.PENDING_APPROVAL,
        actor=actor,
        now=now,
        values={"approval_request_id": request.id},
    )


def schedule(
    payout: Payout,
    *,
    agreed_digest: bytes,
    request_id: UUID | None = None,
    actor: Actor,
    now: datetime,
) -> None:
    """
    Approve a locked payout and give it its day: the next one whose cut-off is ahead.

    `request_id` is the approval it stands on, or None where nobody was asked: an older one that
    lapsed is no ground any more.
    """
    move_payouts(
        [payout],
        PayoutState.APPROVED,
        actor=actor,
        now=now,
        values={"agreed_digest": agreed_digest, "approval_request_id": request_id},
    )
    account_id, day = next_day(
        organization_id=payout.organization_id,
        currency=payout.currency,
        bank_account_id=payout.bank_account_id,
        wished=payout.wished_date,
        now=now,
    )
    move_payouts(
        [payout],
        PayoutState.SCHEDULED,
        actor=actor,
        now=now,
        values={"bank_account_id": account_id, "execution_date": day},
    )


def next_day(
    *,
    organization_id: UUID,
    currency: str,
    bank_account_id: UUID | None,
    now: datetime,
    wished: date | None = None,
) -> tuple[UUID, date]:
    """Return the account that pays (that one, or the oldest), and the next day it can."""
    account = queries.find_paying_account(
        organization_id=organization_id, currency=currency, bank_account_id=bank_account_id
    )
    if account is None:
        # A request looks for one first, and an account that pays is not closed under payouts.
        msg = f"No open bank account of {organization_id} pays {currency}."
        raise InvariantBroken(msg)
    day = execution_date(
        now=now,
        cut_off=account.cut_off,
        is_open=banking.get_open_days().is_open,
        wished=wished,
    )
    return account.id, day


def snapshot_of(payout: Payout, version: DestinationVersion) -> dict[str, object]:
    """Return what people agree to when they approve this payout."""
    return {
        "organization": encode_id("org", payout.organization_id),
        "payout": encode_id("po", payout.id),
        "amount": payout.amount_minor,
        "currency": payout.currency,
        "fee": payout.fee_minor,
        "source": queries.available_code(customer_id=payout.customer_id, currency=payout.currency),
        "destination_version": encode_id("dsv", version.id),
        "fingerprint": bytes(version.fingerprint).hex(),
        # The name itself is encrypted; its keyed digest changes exactly when the name does.
        "holder": bytes(version.holder_digest).hex(),
        "remittance": payout.remittance,
        "creditor_reference": payout.creditor_reference,
        "rail": payout.rail,
    }


def digest_of(payout: Payout) -> bytes:
    """Return the digest of what people agree to."""
    return digests_of([payout])[payout.id]


def digests_of(payouts: Sequence[Payout]) -> dict[UUID, bytes]:
    """Return the digest of each of these payouts of one organization, in one read."""
    versions = queries.list_versions(
        organization_id=payouts[0].organization_id,
        version_ids={payout.destination_version_id for payout in payouts},
    )
    return {
        payout.id: snapshot_digest(snapshot_of(payout, versions[payout.destination_version_id]))
        for payout in payouts
    }


# --- What approvals asks of us ------------------------------------------------------------------


def register_send_act() -> None:
    """Make the sending of a payout an act that people may be asked about."""
    registry.register(
        Act(
            name=SEND_ACT,
            subject_type="payout",
            capability="payouts.approve_payout",
            default_policy=SEND_POLICY,
            lock=_lock,
            snapshot=_snapshot,
            facts=_facts,
            describe=_describe,
            on_approved=_on_approved,
            on_denied=_on_denied,
            on_expired=_on_expired,
        )
    )


def _lock(organization_id: UUID, payout_id: UUID) -> None:
    queries.get_payout_for_update(organization_id=organization_id, payout_id=payout_id)


def _snapshot(organization_id: UUID, payout_id: UUID) -> Mapping[str, object]:
    payout = queries.get_payout(organization_id=organization_id, payout_id=payout_id)
    [version] = queries.list_versions(
        organization_id=organization_id, version_ids=[payout.destination_version_id]
    ).values()
    return snapshot_of(payout, version)


def _facts(organization_id: UUID, payout_id: UUID) -> Facts:
    payout = queries.get_payout(organization_id=organization_id, payout_id=payout_id)
    return Facts(amount_minor=payout.amount_minor, currency=payout.currency)


def _describe(organization_id: UUID, payout_ids: Sequence[UUID]) -> dict[UUID, Mapping[str, str]]:
    payouts = queries.list_payouts(organization_id=organization_id).filter(id__in=payout_ids)
    versions = queries.list_versions(
        organization_id=organization_id, version_ids=[one.destination_version_id for one in payouts]
    )
    return {
        payout.id: {
            "title": f"Pay out {format_minor(payout.amount_minor, payout.currency)}",
            "payout": encode_id("po", payout.id),
            "customer": encode_id("cus", payout.customer_id),
            "to": f"…{versions[payout.destination_version_id].iban_tail}",
            "fee": format_minor(payout.fee_minor, payout.currency),
            "remittance": payout.remittance or payout.creditor_reference,
        }
        for payout in payouts
    }


def _waiting(told: Resolution) -> Payout:
    payout = queries.get_payout_for_update(
        organization_id=told.organization_id, payout_id=told.subject_id
    )
    if payout.state != PayoutState.PENDING_APPROVAL:
        # An open request and a payout that waits for it go together, under the payout's lock.
        msg = f"Payout {payout.id} is {payout.state} while its approval ends."
        raise InvariantBroken(msg)
    return payout


def _on_approved(told: Resolution) -> None:
    payout = _waiting(told)
    schedule(
        payout,
        agreed_digest=told.snapshot_digest,
        request_id=told.request_id,
        actor=told.actor,
        now=told.now,
    )


def _on_denied(told: Resolution) -> None:
    end_all(
        [_waiting(told)],
        PayoutState.DENIED,
        actor=told.actor,
        now=told.now,
        code="approval_denied",
        reason=told.reason,
    )


def _on_expired(told: Resolution) -> None:
    end_all(
        [_waiting(told)],
        PayoutState.CANCELED,
        actor=told.actor,
        now=told.now,
        code="approval_expired",
    )
