"""Staff screens of payments: money that came in, and money that is nobody's yet."""

from collections.abc import Sequence
from typing import ClassVar, override

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from apps.core import clock
from apps.core.admin_base import Filter, RecordAdmin, cells, lists, shown
from apps.core.ids import encode_id
from apps.core.money import format_minor
from apps.payments.models import Payment, UnmatchedMoney, VirtualReference
from apps.payments.states import PaymentState, ReferenceState, UnmatchedReason, UnmatchedState


def customer_link(row: Payment | VirtualReference) -> SafeString:
    """Link to the customer, by the client's own id where there is one."""
    printed = encode_id("cus", row.customer_id)
    url = reverse("admin:accounts_customer_change", args=[printed])
    return cells.link(url, row.customer.external_id or printed[:12])


@admin.register(Payment)
class PaymentAdmin(RecordAdmin[Payment]):
    """Money that came in for a customer."""

    view_capability = "payments.view_payment"
    prefix = "pay"
    aggregate_type = "payment"
    title = "Payments in"
    intro = "Money that came in for a customer. By bank transfer it is final once it is booked."
    empty = "No money came in for a customer in this time."
    search_hint = "pay_… or a creditor reference (RF…)"
    related: ClassVar[Sequence[str]] = ("organization", "customer", "virtual_reference")
    list_display = ("id", "amount_minor", "state", "customer", "reference", "sender", "received_at")
    facts = (
        "id",
        "amount_minor",
        "state",
        "customer",
        "reference",
        "sender",
        "method",
        "line",
        "books",
        "received_at",
        "created_at",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", PaymentState.choices),
        lists.exact("currency", "Currency", placeholder="EUR"),
    )

    @override
    def find(self, request: HttpRequest, rows: QuerySet[Payment], text: str) -> QuerySet[Payment]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(virtual_reference__reference=text.replace(" ", "").upper())

    @override
    def headline(self, obj: Payment) -> str:
        return f"Payment of {format_minor(obj.amount_minor, obj.currency)}"

    def customer(self, obj: Payment) -> SafeString:
        return customer_link(obj)

    def reference(self, obj: Payment) -> SafeString:
        return cells.code(obj.virtual_reference.reference if obj.virtual_reference else "")

    @shown("From")
    def sender(self, obj: Payment) -> SafeString:
        return cells.masked_iban(obj.sender_tail) if obj.sender_tail else cells.NONE

    @shown("Bank line")
    def line(self, obj: Payment) -> SafeString:
        return cells.row_link("banking_bankline", "bl", obj.bank_line_id)

    @shown("Journal entry")
    def books(self, obj: Payment) -> SafeString:
        return cells.row_link("ledger_journalentry", "je", obj.entry_id)


@admin.register(UnmatchedMoney)
class UnmatchedMoneyAdmin(RecordAdmin[UnmatchedMoney]):
    """Money that came in and is nobody's yet."""

    view_capability = "payments.view_payment"
    prefix = "um"
    title = "Unmatched money"
    intro = "Money in suspense: it came in, and nothing on it says whose it is."
    empty = "Every line that came in has an owner."
    related: ClassVar[Sequence[str]] = ("organization", "bank_line", "bank_line__bank_account")
    list_display = (
        "id",
        "amount_minor",
        "reason_cell",
        "age",
        "sender",
        "said",
        "account",
        "state",
    )
    facts = (
        "id",
        "amount_minor",
        "reason_cell",
        "age",
        "sender",
        "account",
        "line",
        "books",
        "candidates_cell",
        "said",
        "received_at",
        "closed_at",
    )
    filters: ClassVar[Sequence[Filter]] = (
        lists.choice("state", UnmatchedState.choices, default="open"),
        lists.choice("reason", UnmatchedReason.choices),
        lists.exact("currency", "Currency", placeholder="EUR"),
    )

    @override
    def headline(self, obj: UnmatchedMoney) -> str:
        return f"{format_minor(obj.amount_minor, obj.currency)} without an owner"

    @shown("Why")
    def reason_cell(self, obj: UnmatchedMoney) -> SafeString:
        return cells.text(obj.reason.replace("_", " "))

    def age(self, obj: UnmatchedMoney) -> SafeString:
        return cells.age(obj.received_at, now=clock.now())

    @shown("From")
    def sender(self, obj: UnmatchedMoney) -> SafeString:
        tail = obj.bank_line.counterparty_tail
        return cells.masked_iban(tail) if tail else cells.NONE

    @shown("Text")
    def said(self, obj: UnmatchedMoney) -> SafeString:
        return cells.free_text(" ".join(obj.bank_line.texts), at_most=100)

    def account(self, obj: UnmatchedMoney) -> SafeString:
        return cells.text(obj.bank_line.bank_account)

    @shown("Bank line")
    def line(self, obj: UnmatchedMoney) -> SafeString:
        return cells.row_link("banking_bankline", "bl", obj.bank_line_id)

    @shown("Journal entry")
    def books(self, obj: UnmatchedMoney) -> SafeString:
        return cells.row_link("ledger_journalentry", "je", obj.entry_id)

    @shown("May be meant for")
    def candidates_cell(self, obj: UnmatchedMoney) -> SafeString:
        return cells.words([str(one) for one in obj.candidates])


@admin.register(VirtualReference)
class VirtualReferenceAdmin(RecordAdmin[VirtualReference]):
    """Creditor references that customers are paid under."""

    view_capability = "payments.view_payment"
    prefix = "vref"
    title = "References"
    intro = "What customers are paid under (ISO 11649). All money under one is its customer's."
    empty = "No customer has a reference yet."
    search_hint = "vref_… or RF…"
    related: ClassVar[Sequence[str]] = ("organization", "customer")
    list_display = ("id", "number", "customer", "currency", "label", "state", "created_at")
    filters: ClassVar[Sequence[Filter]] = (lists.choice("state", ReferenceState.choices),)

    @override
    def find(
        self, request: HttpRequest, rows: QuerySet[VirtualReference], text: str
    ) -> QuerySet[VirtualReference]:
        if text.startswith(f"{self.prefix}_"):
            return super().find(request, rows, text)
        return rows.filter(reference=text.replace(" ", "").upper())

    @override
    def headline(self, obj: VirtualReference) -> str:
        return f"Reference {obj.reference}"

    @shown("Reference")
    def number(self, obj: VirtualReference) -> SafeString:
        return cells.code(obj.reference)

    def customer(self, obj: VirtualReference) -> SafeString:
        return customer_link(obj)
