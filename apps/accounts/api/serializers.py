"""The shapes of accounts in the API."""

from typing import Any, override

from rest_framework import serializers

from apps.accounts import queries
from apps.accounts.models import Customer as CustomerRow
from apps.accounts.states import CustomerState, Mode
from apps.core.api.fields import (
    CodeField,
    CurrencyField,
    IdField,
    InstantField,
    MetadataField,
    TextField,
)
from apps.core.api.shapes import StrictSerializer

CURRENCIES_MAX = 20
EMAIL_PATTERN = r"[^@\s]{1,64}@[^@\s]{1,190}"


class CreateCustomer(StrictSerializer):
    """A new customer; an account is opened in each of the currencies."""

    name = TextField(200)
    email = TextField(254, required=False, allow_null=True, default=None, pattern=EMAIL_PATTERN)
    external_id = TextField(100, required=False, allow_null=True, default=None)
    currencies = serializers.ListField(
        child=CurrencyField(), required=False, default=list, max_length=CURRENCIES_MAX
    )
    metadata = MetadataField(default=dict)


class ChangeCustomer(StrictSerializer):
    metadata = MetadataField(required=True)


class FreezeCustomer(StrictSerializer):
    reason = TextField(500)


class Customer(StrictSerializer):
    """A customer as the API prints it."""

    id = IdField("cus")
    external_id = TextField(100, allow_null=True)
    name = TextField(200)
    email = TextField(254, allow_null=True)
    state = CodeField(CustomerState.values)
    metadata = MetadataField()
    created_at = InstantField()

    @override
    def to_representation(self, instance: CustomerRow) -> dict[str, Any]:
        return {
            "id": self.fields["id"].to_representation(instance.id),
            "external_id": instance.external_id,
            "name": queries.unseal_name(instance),
            "email": queries.unseal_email(instance),
            "state": instance.state,
            "metadata": instance.metadata,
            "created_at": self.fields["created_at"].to_representation(instance.created_at),
        }


class Organization(StrictSerializer):
    id = IdField("org")
    name = TextField(200)
    mode = CodeField(Mode.values)
    time_zone = TextField(64)


class ApiKey(StrictSerializer):
    id = IdField("ak")
    name = TextField(100)
    last4 = TextField(4)
    scopes = serializers.ListField(child=TextField(64))
    expires_at = InstantField()
    kassa_version = TextField(10)


class Me(StrictSerializer):
    """Whose key this is, and what it may do."""

    organization = Organization()
    api_key = ApiKey()
