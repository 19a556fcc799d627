"""The shapes of reconciliation in the API."""

from typing import Any, Final, override

from rest_framework import serializers

from apps.core.api.fields import (
    CodeField,
    CurrencyField,
    IdField,
    InstantField,
    IntegerField,
    TextField,
)
from apps.core.api.shapes import StrictSerializer
from apps.core.ids import encode_id
from apps.reconciliation.states import (
    BreakKind,
    BreakState,
    MatchState,
    Resolution,
    Rule,
    TargetKind,
)

AMOUNT_MAX: Final = 10**18
# How a target's id is printed; an attempt of a payout has a prefix of its own.
PREFIXES: Final = {
    TargetKind.PAYMENT: "pay",
    TargetKind.PAYOUT_ATTEMPT: "pat",
    TargetKind.PAYOUT_RETURN: "pat",
}


class Target(StrictSerializer):
    """What a bank line is: a payment, an attempt of a payout, or its return."""

    kind = CodeField(TargetKind.values)
    id = TextField(64)


class Match(StrictSerializer):
    id = IdField("mat")
    bank_line = IdField("bl", source="bank_line_id")
    rule = CodeField(Rule.values)
    state = CodeField(MatchState.values)
    amount = IntegerField(least=-AMOUNT_MAX, most=AMOUNT_MAX, source="amount_minor")
    currency = CurrencyField()
    targets = serializers.ListField(child=Target())
    created_at = InstantField()

    @override
    def to_representation(self, instance: Any) -> dict[str, Any]:
        instance.targets = [
            {"kind": kind, "id": encode_id(PREFIXES[TargetKind(kind)], target_id)}
            for kind, target_id in zip(instance.target_kinds, instance.target_ids, strict=True)
        ]
        shown: dict[str, Any] = super().to_representation(instance)
        return shown


class Break(StrictSerializer):
    id = IdField("brk")
    kind = CodeField(BreakKind.values)
    bank_account = IdField("ba", source="bank_account_id")
    bank_line = IdField("bl", source="bank_line_id", allow_null=True)
    statement = IdField("bst", source="statement_id", allow_null=True)
    amount = IntegerField(
        least=-AMOUNT_MAX, most=AMOUNT_MAX, source="amount_minor", allow_null=True
    )
    currency = CurrencyField()
    state = CodeField(BreakState.values)
    resolution = CodeField(["", *Resolution.values])
    reason = TextField(500, allow_blank=True)
    first_seen_at = InstantField()
    resolved_at = InstantField(allow_null=True)
