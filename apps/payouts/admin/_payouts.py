"""Payouts: what holds them, what was sent, how they came to be so; released and canceled."""

from collections.abc import Sequence
from typing import Any, ClassVar, override

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.accounts.states import CustomerState
from apps.core import clock
from apps.core.admin_base import (
    Act,
    ActForm,
    Fact,
    Filter,
    RecordAdmin,
    Table,
    actor_words,
    cells,
    lists,
    people,
    shown,
    zone_of,
)
from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.payouts import operations, queries
from apps.payouts.models import Payout, PayoutAttempt, PayoutBatch
from apps.payouts.states import CANCELABLE, COOLDOWN, PAUSED, PayoutState


class ReleaseForm(ActForm):
    """Which of the reasons that hold a payout is lifted."""

    hold_reason = forms.ChoiceField(label="What holds it")

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        reasons = [one for one in self.subject.hold_reasons if one != COOLDOWN]
        field = self.fields["hold_reason"]
        field.choices = [(one, one.replace("_", " ")) for one in reasons]  # type: ignore[attr-defined]  # a choice field


def _of_batch(rows: QuerySet[Payout], batch_id: str) -> QuerySet[Payout]:
    owner = PayoutBatch.objects.filter(id=batch_id).values("organization_id")
    attempts = PayoutAttempt.objects.filter(organization_id__in=owner, batch_id=batch_id)
    return rows.filter(id__in=attempts.values("payout_id"))


def _cancel_is_off(payout: Payout, _user: Any) -> str:  # noqa: ANN401
    if payout.state in CANCELABLE:
        return ""
    if payout.closed_at is not None:
        return f"It is {payout.state.replace('_', ' ')}: there is nothing left to stop."
    return "It was frozen into a batch; from then on the bank may have it."


def _release_is_off(payout: Payout, _user: Any) -> str:  # noqa: ANN401
    if payout.state != PayoutState.HELD:
        return "Nothing holds it."
    if set(payout.hold_reasons) == {COOLDOWN}:
        return "Only the cooldown holds it, and that ends by itself."
    customer = payout.customer
    if customer.state != CustomerState.OPEN and set(payout.hold_reasons) <= {COOLDOWN, PAUSED}:
        return (
            f"The customer is {customer.state}: the next batch would hold it again. "
            "It can be canceled."
        )
    return ""


def _money(payout: Payout) -> str:
    return format_minor(payout.amount_minor, payout.currency)


@admin.register(Payout)
class PayoutAdmin(RecordAdmin[Payout]):
    """Money on its way out."""

    view_capability = "payouts.view_payout"
    prefix = "po"
    aggregate_type = "payout"
    intro = "Money on its way out: reserved when it is asked for, settled once the bank shows it."
    empty = "Nobody has asked for a payout in this time."
    search_hint = "po_… or the client's own id"
    related: ClassVar[Sequence[str]] = (
        "organization",
        "customer",
        "destination_version",
        "bank_account",
    )
    list_display = ("id", "amount_minor", "state", "why", "customer", "to", "day", "requested_at")
    facts = (
        "id",
        "amount_minor",
        "fee_minor",
        "customer",
        "to",
        "holder",
        "remittance",
        "rail",
        "day",
        "account",
        "external_id",
        "requested_at",
        "closed_at",
        "failure",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", PayoutState.choices),
        lists.exact("currency", "Currency", placeholder="EUR"),
        lists.since("requested_at", "Asked for", now=clock.now),
        Filter("batch", "Payouts of one batch", _of_batch, is_linked=True),
    )
    acts = (
        Act(
            name="release",
            capability="payouts.release_risk_hold",
            operation=operations.release_payout,
            form=ReleaseForm,
            label=lambda payout: f"Release {_money(payout)}",
            off=_release_is_off,
            done=lambda payout: f"Released; it is {payout.state.replace('_', ' ')} now.",
            presets=("Checked with the customer.",),
            is_always_shown=True,
        ),
        Act(
            name="cancel",
            capability="payouts.cancel_payout",
            operation=operations.cancel_payout,
            label=lambda payout: f"Cancel {_money(payout)}",
            off=_cancel_is_off,
            done=lambda payout: f"Canceled; {_money(payout)} is available to the customer again.",
            presets=("The customer asked for it.", "It was asked for twice."),
            is_dangerous=True,
            is_always_shown=True,
            note="The reserved money becomes available to the customer at once.",
        ),
    )

    @override
    def find(self, request: HttpRequest, rows: QuerySet[Payout], text: str) -> QuerySet[Payout]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(external_id=text)

    @override
    def headline(self, obj: Payout) -> str:
        return f"Payout of {_money(obj)}"

    @shown(" ")
    def why(self, obj: Payout) -> SafeString:
        reasons = [one.replace("_", " ") for one in obj.hold_reasons]
        return cells.words(reasons) if reasons else cells.EMPTY

    def customer(self, obj: Payout) -> SafeString:
        url = reverse("admin:accounts_customer_change", args=[encode_id("cus", obj.customer_id)])
        return cells.link(url, obj.customer.external_id or encode_id("cus", obj.customer_id)[:12])

    def to(self, obj: Payout) -> SafeString:
        version = obj.destination_version
        return cells.masked_iban(version.iban_tail, country=version.country)

    @shown("Destination")
    def holder(self, obj: Payout) -> SafeString:
        return cells.row_link("payouts_destination", "dst", obj.destination_id)

    @shown("Leaves on")
    def day(self, obj: Payout) -> SafeString:
        return cells.day(obj.execution_date)

    @shown("From")
    def account(self, obj: Payout) -> SafeString:
        return cells.row_link("banking_bankaccount", "ba", obj.bank_account_id)

    @shown("Why it ended")
    def failure(self, obj: Payout) -> SafeString:
        return cells.code(" ".join(filter(None, (obj.failure_code, obj.bank_code))))

    @override
    def get_facts(self, request: HttpRequest, obj: Payout) -> list[Fact]:
        shown_facts = super().get_facts(request, obj)
        if obj.hold_reasons:
            shown_facts.insert(2, Fact("Held because of", self.why(obj)))
            shown_facts.insert(
                3, Fact("Held until", cells.instant(obj.available_at, zone=zone_of(obj)))
            )
        if obj.approval_request_id and request.user.has_perm("ledger.view_ledger"):
            link = cells.row_link("approvals_approvalrequest", "apr", obj.approval_request_id)
            shown_facts.append(Fact("Approval", link))
        return shown_facts

    @override
    def get_tables(self, request: HttpRequest, obj: Payout) -> list[Table]:
        return [_attempts_table(obj), _transitions_table(obj)]


def _attempts_table(payout: Payout) -> Table:
    attempts = queries.list_attempts(organization_id=payout.organization_id, payout_id=payout.id)
    return Table(
        "Attempts",
        ("Batch", "End-to-end id", "State", "Bank says", ">Amount", "Changed for the bank", "When"),
        [
            [
                cells.row_link("payouts_payoutbatch", "pb", one.batch_id),
                cells.code(one.end_to_end_id),
                cells.state(one.state),
                cells.code(" ".join(filter(None, (one.bank_status, one.reason_code)))),
                cells.amount(one.amount_minor, one.currency),
                cells.words(one.changed_fields),
                cells.instant(one.state_changed_at, zone=zone_of(payout)),
            ]
            for one in attempts
        ],
        empty="It was in no file yet. It joins one at the cut-off of its day.",
    )


def _transitions_table(payout: Payout) -> Table:
    moves = queries.list_transitions(organization_id=payout.organization_id, payout_id=payout.id)
    names = people(move.actor for move in moves)
    return Table(
        "How it came to be so",
        ("When", "From", "To", "By", "Why"),
        [
            [
                cells.instant(move.occurred_at, zone=zone_of(payout)),
                cells.state(move.from_state, tone="flat"),
                cells.state(move.to_state),
                cells.text(names.get(move.actor) or actor_words(move.actor)),
                cells.text(move.reason),
            ]
            for move in moves
        ],
        empty="Nothing happened to it yet.",
    )
