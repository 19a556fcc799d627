"""The shapes of payments in the API."""

from rest_framework import serializers

from apps.core.api.fields import (
    AmountField,
    CodeField,
    CurrencyField,
    IdField,
    InstantField,
    TextField,
)
from apps.core.api.shapes import StrictSerializer
from apps.payments.states import (
    Method,
    PaymentState,
    ReferenceState,
    UnmatchedReason,
    UnmatchedState,
)


class CreateVirtualReference(StrictSerializer):
    """A reference for a customer to be paid under, any amount, for ever."""

    customer = IdField("cus")
    currency = CurrencyField(required=False, default="EUR")
    label = TextField(100, required=False, default="", allow_blank=True)  # type: ignore[assignment]  # it leaves the class


class VirtualReference(StrictSerializer):
    id = IdField("vref")
    customer = IdField("cus", source="customer_id")
    reference = TextField(25)
    currency = CurrencyField()
    label = TextField(100, allow_blank=True)  # type: ignore[assignment]  # it leaves the class
    state = CodeField(ReferenceState.values)
    created_at = InstantField()


class Payment(StrictSerializer):
    id = IdField("pay")
    customer = IdField("cus", source="customer_id")
    amount = AmountField(source="amount_minor")
    currency = CurrencyField()
    method = CodeField(Method.values)
    state = CodeField(PaymentState.values)
    virtual_reference = IdField("vref", source="virtual_reference_id", allow_null=True)
    bank_line = IdField("bl", source="bank_line_id", allow_null=True)
    journal_entry = IdField("je", source="entry_id")
    sender_tail = TextField(4, allow_blank=True)
    received_at = InstantField()
    created_at = InstantField()


class UnmatchedMoney(StrictSerializer):
    id = IdField("um")
    amount = AmountField(source="amount_minor")
    currency = CurrencyField()
    reason = CodeField(UnmatchedReason.values)
    state = CodeField(UnmatchedState.values)
    candidates = serializers.ListField(child=TextField(64))
    bank_line = IdField("bl", source="bank_line_id")
    payment = IdField("pay", source="payment_id", allow_null=True)
    received_at = InstantField()
    created_at = InstantField()
