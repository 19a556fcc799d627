"""What happens when statements come: opening balances to be accepted, and gaps in the chain."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.accounts.roles import Role
from apps.approvals import operations as approvals
from apps.approvals import queries as approval_queries
from apps.approvals.models import ApprovalRequest
from apps.approvals.registry import Act, Resolution
from apps.approvals.rules import Facts, Policy, Step
from apps.banking import queries as banking
from apps.banking.registry import StatementTaken
from apps.banking.states import Chain
from apps.core import audit, idempotency, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.money import format_minor
from apps.ledger import operations as ledger
from apps.ledger.operations import AccountSpec
from apps.ledger.rules import Leg, PostEntry
from apps.reconciliation import queries
from apps.reconciliation.models import Break, OpeningBalance
from apps.reconciliation.operations._breaks import open_breaks, resolve_breaks
from apps.reconciliation.states import BreakKind, OpeningState
from apps.reconciliation.states import Resolution as BreakResolution

OPENING_ACT: Final = "reconciliation.accept_opening"
EQUITY: Final = "equity:opening"


@transactions.required
def note_statements(
    *,
    organization_id: UUID,
    statements: Sequence[StatementTaken],
    actor: Actor,
    now: datetime,
) -> None:
    """
    Act on statements that were just placed, in the transaction that takes them.

    An account's first one asks another person to accept its opening balance. One with a gap before
    it opens `statement_missing`; the one that fits in between closes that.
    """
    for statement in statements:
        if statement.chain == Chain.FIRST and statement.opening_minor:
            _propose(organization_id, statement, actor=actor, now=now)
    open_breaks(
        [
            Break(
                id=new_id(),
                organization_id=organization_id,
                kind=BreakKind.STATEMENT_MISSING,
                bank_account_id=statement.bank_account_id,
                statement_id=statement.id,
                currency=statement.currency,
                first_seen_at=now,
            )
            for statement in statements
            if statement.chain == Chain.GAP
        ],
        actor=actor,
        now=now,
    )
    closed = [each.closed_gap_of for each in statements if each.closed_gap_of is not None]
    if closed:
        resolve_breaks(
            queries.lock_open_breaks(organization_id=organization_id, statement_ids=closed),
            resolution=BreakResolution.EXPLAINED,
            reason="The missing statement came.",
            actor=actor,
            now=now,
        )


def _propose(
    organization_id: UUID, statement: StatementTaken, *, actor: Actor, now: datetime
) -> None:
    opening = OpeningBalance.objects.create(
        organization_id=organization_id,
        bank_account_id=statement.bank_account_id,
        statement_id=statement.id,
        ledger_account_id=statement.ledger_account_id,
        amount_minor=statement.opening_minor,
        currency=statement.currency,
        proposed_by=actor.principal,
        created_at=now,
    )
    _ask(opening, actor=actor, now=now)


def _ask(opening: OpeningBalance, *, actor: Actor, now: datetime) -> None:
    asked = approvals.request_approval(
        organization_id=opening.organization_id,
        act=OPENING_ACT,
        subject_id=opening.id,
        requester_principal=actor.principal,
        actor=actor,
        now=now,
    )
    if asked is None:
        # An organisation's own policy asks nobody.
        _accept(opening, actor=actor, now=now)


@transactions.outermost
def request_opening(
    *,
    organization_id: UUID,
    bank_account_id: UUID,
    reason: str,
    idempotency_key: str,
    actor: Actor,
    now: datetime,
) -> ApprovalRequest | None:
    """
    Return the open request about an account's opening balance; ask again where there is none.

    The import of an account's first statement asks by itself: this is for a request that was
    denied, or that nobody decided in time. None where nothing is to be decided: the account opened
    with nothing, has no statement yet, or its opening balance stands. Replaying the key asks
    nobody anew.

    :raises BankAccountNotFound: if the organization has no such account
    """
    claim = idempotency.claim(
        organization_id,
        idempotency_key,
        "request_opening",
        bank_account_id,
        reason,
        prefix="ba",
        acts_on=bank_account_id,
    )
    banking.get_bank_account(organization_id=organization_id, bank_account_id=bank_account_id)
    opening = queries.find_opening_for_update(
        organization_id=organization_id, bank_account_id=bank_account_id
    )
    if opening is None or opening.state == OpeningState.ACCEPTED:
        return None
    if opening.state != OpeningState.PROPOSED and not claim.replayed:
        opening.state, opening.proposed_by = OpeningState.PROPOSED, actor.principal
        opening.decided_at = None
        opening.save(update_fields=["state", "proposed_by", "decided_at"])
        audit.record("reconciliation.request_opening", opening, actor=actor, reason=reason)
        _ask(opening, actor=actor, now=now)
    return approval_queries.lock_open_request(
        organization_id=organization_id, act=OPENING_ACT, subject_id=opening.id
    )


def _accept(opening: OpeningBalance, *, actor: Actor, now: datetime) -> None:
    code = f"{EQUITY}:{opening.currency}"
    equity = ledger.open_accounts(
        organization_id=opening.organization_id,
        accounts=[AccountSpec(code, "equity", opening.currency)],
        now=now,
    )[code]
    entry_id = new_id()
    ledger.post(
        organization_id=opening.organization_id,
        commands=[
            PostEntry(
                id=entry_id,
                legs=(
                    Leg(opening.ledger_account_id, opening.amount_minor),
                    Leg(equity, -opening.amount_minor),
                ),
                currency=opening.currency,
                kind="bank.opening",
                reference=f"bank_account:{opening.bank_account_id}:opening",
                description="Opening balance of the first statement",
                metadata={"bank_statement": encode_id("bst", opening.statement_id)},
            )
        ],
        actor=actor,
        now=now,
    )
    opening.state, opening.entry_id, opening.decided_at = OpeningState.ACCEPTED, entry_id, now
    opening.save(update_fields=["state", "entry", "decided_at"])
    audit.record(
        "reconciliation.accept_opening",
        opening,
        actor=actor,
        after={"amount_minor": opening.amount_minor, "currency": opening.currency},
    )


# --- The act, as approvals knows it -------------------------------------------------------------


def opening_act() -> Act:
    """Return the act `reconciliation.accept_opening`; one finance approver besides the importer."""
    return Act(
        name=OPENING_ACT,
        subject_type="opening_balance",
        capability="reconciliation.match_line_above_limit",
        default_policy=Policy(otherwise=(Step(Role.FINANCE_APPROVER, 1),)),
        lock=_lock,
        snapshot=_snapshot,
        facts=_facts,
        describe=_describe,
        on_approved=_on_approved,
        on_denied=_on_denied,
        on_expired=_on_expired,
    )


def _lock(organization_id: UUID, subject_id: UUID) -> None:
    queries.get_opening_for_update(organization_id=organization_id, opening_id=subject_id)


def _snapshot(organization_id: UUID, subject_id: UUID) -> Mapping[str, object]:
    opening = queries.get_opening(organization_id=organization_id, opening_id=subject_id)
    return {
        "organization": str(organization_id),
        "bank_account": encode_id("ba", opening.bank_account_id),
        "bank_statement": encode_id("bst", opening.statement_id),
        "amount_minor": opening.amount_minor,
        "currency": opening.currency,
    }


def _facts(organization_id: UUID, subject_id: UUID) -> Facts:
    opening = queries.get_opening(organization_id=organization_id, opening_id=subject_id)
    return Facts(amount_minor=abs(opening.amount_minor), currency=opening.currency)


def _describe(organization_id: UUID, subject_ids: Sequence[UUID]) -> dict[UUID, Mapping[str, str]]:
    rows = queries.list_openings(organization_id=organization_id).filter(id__in=subject_ids)
    return {
        row.id: {
            "title": f"Opening balance {format_minor(row.amount_minor, row.currency)}",
            "bank_account": encode_id("ba", row.bank_account_id),
            "amount": format_minor(row.amount_minor, row.currency),
        }
        for row in rows
    }


def _on_approved(resolution: Resolution) -> None:
    opening = queries.get_opening_for_update(
        organization_id=resolution.organization_id, opening_id=resolution.subject_id
    )
    if opening.state == OpeningState.PROPOSED:
        _accept(opening, actor=resolution.actor, now=resolution.now)


def _on_denied(resolution: Resolution) -> None:
    _close(resolution, OpeningState.DENIED)


def _on_expired(resolution: Resolution) -> None:
    _close(resolution, OpeningState.EXPIRED)


def _close(resolution: Resolution, state: OpeningState) -> None:
    opening = queries.get_opening_for_update(
        organization_id=resolution.organization_id, opening_id=resolution.subject_id
    )
    if opening.state == OpeningState.PROPOSED:
        opening.state, opening.decided_at = state, resolution.now
        opening.save(update_fields=["state", "decided_at"])
