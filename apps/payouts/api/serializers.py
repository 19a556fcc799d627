"""The shapes of payouts in the API."""

from typing import TYPE_CHECKING, Any, ClassVar, Final, override

from rest_framework import serializers

from apps.core.api.fields import (
    AmountField,
    CodeField,
    CurrencyField,
    DayField,
    IbanField,
    IdField,
    InstantField,
    IntegerField,
    MetadataField,
    TextField,
)
from apps.core.api.shapes import StrictSerializer
from apps.core.ids import encode_id
from apps.core.wall_clock import print_instant
from apps.payouts import queries
from apps.payouts.models import Destination as DestinationRow
from apps.payouts.models import DestinationVersion
from apps.payouts.models import Payout as PayoutRow
from apps.payouts.queries import PayoutView
from apps.payouts.states import DestinationState, PayoutState

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE_MAX: Final = 70
_LINES_MAX: Final = 10
_COUNT_MAX: Final = 2**31


class Address(StrictSerializer):
    """Where the holder is: town and country, and a street or at most two lines."""

    street = TextField(_LINE_MAX, required=False)
    building = TextField(16, required=False)
    post_code = TextField(16, required=False)
    town = TextField(35, required=False)
    country = TextField(2, required=False, pattern="[A-Z]{2}")
    lines = serializers.ListField(child=TextField(200), required=False, max_length=_LINES_MAX)


class CreateDestination(StrictSerializer):
    """A bank account to which this customer may be paid."""

    customer = IdField("cus")
    iban = IbanField()
    bic = TextField(11, required=False, default="", pattern="[A-Z0-9]{8}(?:[A-Z0-9]{3})?")
    holder_name = TextField(200)
    currency = CurrencyField()
    address = Address(required=False, allow_null=True, default=None)


class DisableDestination(StrictSerializer):
    reason = TextField(500)


class _DestinationList(serializers.ListSerializer[Any]):
    """Reads the versions of a page of destinations at once."""

    @override
    def to_representation(self, data: Any) -> list[dict[str, Any]]:
        rows: Sequence[DestinationRow] = list(data)
        versions = queries.versions_by_destination(rows)
        return [_print_destination(row, versions[row.id]) for row in rows]


class Destination(StrictSerializer):
    """A destination as the API prints it: the account by its country and last four only."""

    id = IdField("dst")
    customer = IdField("cus")
    state = CodeField(DestinationState.values)
    iban = TextField(16, help_text="Masked: the country and the last four.")
    country = TextField(2)
    iban_tail = TextField(4)
    bic = TextField(11, allow_null=True)
    currency = CurrencyField()
    usable_from = InstantField()
    created_at = InstantField()

    class Meta:
        list_serializer_class: ClassVar = _DestinationList

    @override
    def to_representation(self, instance: DestinationRow) -> dict[str, Any]:
        return _print_destination(instance, queries.get_version_in_use(instance))


def _print_destination(row: DestinationRow, version: DestinationVersion) -> dict[str, Any]:
    return {
        "id": encode_id("dst", row.id),
        "customer": encode_id("cus", row.customer_id),
        "state": row.state,
        "iban": f"{version.country}…{version.iban_tail}",
        "country": version.country,
        "iban_tail": version.iban_tail,
        "bic": version.bic or None,
        "currency": version.currency,
        "usable_from": print_instant(version.usable_from),
        "created_at": print_instant(row.created_at),
    }


class RequestPayout(StrictSerializer):
    """An amount of a customer's money, to one of the customer's destinations."""

    customer = IdField("cus")
    destination = IdField("dst")
    amount = AmountField()
    currency = CurrencyField()
    rail = CodeField(("auto", "sct"), required=False, default="auto")
    execution_date = DayField(required=False, allow_null=True, default=None)
    remittance = TextField(560, required=False, default="")
    creditor_reference = TextField(25, required=False, default="")
    external_id = TextField(100, required=False, allow_null=True, default=None)
    purpose = TextField(100, required=False, default="")
    metadata = MetadataField(default=dict)


class CancelPayout(StrictSerializer):
    reason = TextField(500)


class PayoutDestination(StrictSerializer):
    """Where a payout goes, masked."""

    id = IdField("dst")
    country = TextField(2)
    iban_tail = TextField(4)


class Approvals(StrictSerializer):
    """How many people have to agree, and how many have."""

    needed = IntegerField(least=0, most=_COUNT_MAX)
    given = IntegerField(least=0, most=_COUNT_MAX)


class Failure(StrictSerializer):
    """Why it did not go through: our code, and the bank's where it may be told."""

    code = TextField(64)
    bank_code = TextField(35, allow_null=True)


class _PayoutList(serializers.ListSerializer[Any]):
    """Reads what a page of payouts shows in a fixed number of queries."""

    @override
    def to_representation(self, data: Any) -> list[dict[str, Any]]:
        rows: Sequence[PayoutRow] = list(data)
        return [_print(view) for view in queries.view_payouts(rows)]


class Payout(StrictSerializer):
    """A payout as the API prints it; amounts in minor units."""

    id = IdField("po")
    state = CodeField(PayoutState.values)
    customer = IdField("cus")
    destination = PayoutDestination()
    amount = AmountField()
    requested_amount = AmountField()
    fee = IntegerField(least=0, most=_COUNT_MAX)
    returned_amount = IntegerField(least=0, most=10**13)
    currency = CurrencyField()
    rail = CodeField(("sct",))
    hold_reasons = serializers.ListField(child=TextField(32))
    available_at = InstantField(allow_null=True)
    execution_date = DayField(allow_null=True)
    remittance = TextField(560, allow_null=True)
    creditor_reference = TextField(25, allow_null=True)
    external_id = TextField(100, allow_null=True)
    purpose = TextField(100, allow_null=True)
    metadata = MetadataField()
    approvals = Approvals(allow_null=True)
    failure = Failure(allow_null=True)
    created_at = InstantField()
    times = serializers.DictField(child=InstantField(), help_text="When it entered each state.")
    sequence = IntegerField(least=1, most=_COUNT_MAX)

    class Meta:
        list_serializer_class: ClassVar = _PayoutList

    @override
    def to_representation(self, instance: PayoutRow) -> dict[str, Any]:
        [view] = queries.view_payouts([instance])
        return _print(view)


def _print(view: PayoutView) -> dict[str, Any]:
    payout, version = view.payout, view.version
    failure = {"code": payout.failure_code, "bank_code": payout.bank_code or None}
    needed = {"needed": view.people[0], "given": view.people[1]} if view.people else None
    day = payout.execution_date
    return {
        "id": encode_id("po", payout.id),
        "state": payout.state,
        "customer": encode_id("cus", payout.customer_id),
        "destination": {
            "id": encode_id("dst", payout.destination_id),
            "country": version.country,
            "iban_tail": version.iban_tail,
        },
        "amount": payout.amount_minor,
        "requested_amount": payout.requested_amount_minor,
        "fee": payout.fee_minor,
        "returned_amount": payout.returned_minor,
        "currency": payout.currency,
        "rail": payout.rail,
        "hold_reasons": list(payout.hold_reasons),
        "available_at": print_instant(payout.available_at) if payout.available_at else None,
        "execution_date": day.isoformat() if day else None,
        "remittance": payout.remittance or None,
        "creditor_reference": payout.creditor_reference or None,
        "external_id": payout.external_id,
        "purpose": payout.purpose or None,
        "metadata": payout.metadata,
        "approvals": needed,
        "failure": failure if payout.failure_code else None,
        "created_at": print_instant(payout.requested_at),
        "times": {state: print_instant(at) for state, at in view.times.items()},
        "sequence": payout.event_sequence,
    }
