"""Books with all that stands beside entries, and what of it another organisation's have."""

from datetime import date, datetime, timedelta
from decimal import Decimal

from django.core.management import call_command

from apps.core.ids import new_id
from apps.ledger import operations, queries
from apps.ledger.models import FxTransfer, Hold, LedgerAccount, PeriodBalance
from apps.ledger.operations import CaptureRequest, FxRequest, HoldRequest, MonitorTerms
from apps.ledger.rules import MonitorDirection, MonitorMeasure
from tests.ledger.factories import (
    ACTOR,
    NOW,
    close_month,
    create_organization,
    fund,
    open_account,
)

OCTOBER = date(2026, 10, 1)
ANN, BOB, DOLLARS = "wallets:ann:EUR", "wallets:bob:EUR", "wallets:ann:USD"
TILL = "tills:1:EUR"


def ids_of(organization) -> dict:
    return dict(LedgerAccount.objects.filter(organization_id=organization)
                .values_list("code", "id"))  # fmt: skip


def hold(organization, debit, credit, amount, **more) -> None:
    ids = ids_of(organization)
    asked = HoldRequest(
        debit_account_id=ids[debit], credit_account_id=ids[credit], amount_minor=amount,
        currency="EUR", **more,
    )  # fmt: skip
    operations.place_hold(
        organization_id=organization, hold=asked, idempotency_key=f"{new_id()}", actor=ACTOR,
        now=NOW,
    )  # fmt: skip


def open_holds(organization) -> list[Hold]:
    return list(
        queries.holds(organization_id=organization, search=queries.HoldSearch(), now=NOW)
        .filter(status="open")
        .order_by("id")
    )


def capture(organization, hold_id, amount=None):
    return operations.capture_hold(
        organization_id=organization, hold_id=hold_id,
        capture=CaptureRequest(amount_minor=amount), idempotency_key=f"{new_id()}", actor=ACTOR,
        now=NOW,
    )  # fmt: skip


def create_origin():
    """A closed October; then money changed, holds of all kinds, and monitors, in November."""
    organization = create_organization("Origin")
    ann = open_account(organization, ANN)
    open_account(organization, BOB)
    dollars = open_account(organization, DOLLARS)
    open_account(organization, TILL, type_="asset")
    fund(organization, ann, 100_00, at=datetime.combine(OCTOBER, NOW.timetz()))
    close_month(organization, OCTOBER, now=NOW)
    operations.exchange(
        organization_id=organization,
        fx=FxRequest(
            from_account_id=ann, to_account_id=dollars, sold_minor=10_01, sold_currency="EUR",
            bought_currency="USD", rate=Decimal("1.0837"), source="ecb", quoted_at=NOW,
            reference="fx-1", description="For the trip", metadata={"trip": "NY"},
        ),
        idempotency_key="fx", actor=ACTOR, now=NOW,
    )  # fmt: skip
    for number, amount in enumerate((5_00, 6_00)):
        hold(organization, ANN, BOB, amount, reference=f"ho-{number}", metadata={"n": str(number)},
             expires_at=NOW + timedelta(days=7))  # fmt: skip
    hold(organization, ANN, BOB, 20_00, multi_capture=True)
    hold(organization, TILL, ANN, 7_00)
    hold(organization, ANN, BOB, 1_00)
    *_, parts, _till, gone = open_holds(organization)
    capture(organization, parts.id, 8_00)
    operations.void_hold(
        organization_id=organization, hold_id=gone.id, idempotency_key="v", actor=ACTOR, now=NOW
    )
    for threshold in (50_00, 70_00, 10_00):
        monitor = operations.create_monitor(
            organization_id=organization,
            terms=MonitorTerms(
                account_id=ann, measure=MonitorMeasure.AVAILABLE, direction=MonitorDirection.BELOW,
                threshold_minor=threshold, description="Low",
            ),
            idempotency_key=f"m-{threshold}", actor=ACTOR, now=NOW,
        )  # fmt: skip
        if threshold == 70_00:
            operations.deactivate_monitor(
                organization_id=organization, monitor_id=monitor, actor=ACTOR, now=NOW
            )
    return organization


def beside(organization) -> dict:
    """Return what stands beside the entries, without ids."""
    codes = {id_: code for code, id_ in ids_of(organization).items()}
    months = queries.periods(organization_id=organization)
    return {
        "holds": [
            (codes[h.debit_account_id], codes[h.credit_account_id],
             h.amount_minor - h.captured_minor, h.currency, h.reference, h.expires_at,
             h.multi_capture, h.metadata, h.keeps_reference)
            for h in open_holds(organization)
        ],
        "fx": [
            (codes[f.from_account_id], codes[f.to_account_id], f.sold_minor, f.bought_minor,
             f.rate, f.remainder_minor, f.source, f.quoted_at, f.reference, f.description,
             f.metadata, f.effective_at, f.created_at)
            for f in FxTransfer.objects.filter(organization_id=organization)
        ],
        "monitors": [
            (codes[m.account_id], m.measure, m.direction, m.threshold_minor, m.description,
             m.is_beyond)
            for m in queries.monitors(organization_id=organization, is_active=True).order_by("id")
        ],
        "months": [(m.month, m.state, m.closings, m.requested_by, m.approved_by) for m in months],
        "stored": [
            sorted(
                (codes[line.account_id], line.opening_minor, line.debits_minor, line.credits_minor)
                for line in PeriodBalance.objects.filter(
                    organization_id=organization, month=month.month, closing=month.closings
                )
            )
            for month in months
        ],
    }  # fmt: skip


def closed(organization) -> bool:
    """Say whether its months are closed, after the job ran that closes them."""
    call_command("close_periods")
    return {m.state for m in queries.periods(organization_id=organization)} == {"closed"}
