"""Where a customer's money may go, version by version."""

from typing import ClassVar, override

from django.db import models
from django.db.models import Q

from apps.core.constraints import OwnedKey, SameOrganization, TiedCopy
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import frozen_columns, moves_only, never_deleted
from apps.payouts.states import DESTINATION_MOVES, STATE_LENGTH, DestinationState


class Destination(OrganizationOwned):
    """One bank account of one customer. What it is stands in its versions, which never change."""

    customer = OwnedForeignKey("accounts.Customer")
    state = models.CharField(
        max_length=STATE_LENGTH, choices=DestinationState, default=DestinationState.UNVERIFIED
    )
    state_reason = models.CharField(max_length=100, blank=True, default="")
    event_sequence = models.PositiveIntegerField(default=0)
    created_by = models.CharField(max_length=100)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "payouts_destination"
        indexes: ClassVar = [
            models.Index(
                name="destination_of_customer", fields=["organization", "customer", "-id"]
            ),
            models.Index(name="destination_made", fields=["organization", "created_at", "id"]),
        ]
        constraints: ClassVar = [
            OwnedKey(name="destination_key"),
            SameOrganization(name="destination_owns_its_customer", field="customer"),
            models.UniqueConstraint(
                name="destination_has_one_customer", fields=["organization", "id", "customer"]
            ),
            models.CheckConstraint(
                name="destination_state_is_known", condition=Q(state__in=DestinationState.values)
            ),
        ]
        triggers: ClassVar = [
            never_deleted("destinations_stay"),
            moves_only("destination_moves", moves=DESTINATION_MOVES),
            frozen_columns(
                "destination_is_one_customers",
                columns=["id", "organization_id", "customer_id", "created_at"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"destination {self.id}"


class DestinationVersion(OrganizationOwned):
    """
    Where the money goes, exactly; a payout pins the version it was made with.

    `holder_digest` stands for the encrypted name in snapshots and in the guard: a ciphertext may
    change when keys rotate, what it says may not.
    """

    destination = OwnedForeignKey(Destination)
    customer = OwnedForeignKey("accounts.Customer")
    number = models.PositiveIntegerField()
    fingerprint = models.BinaryField(db_comment="HMAC-SHA256 of the normalised IBAN.")
    iban_sealed = models.BinaryField()
    iban_tail = models.CharField(max_length=4)
    country = models.CharField(max_length=2)
    bic = models.CharField(max_length=11, blank=True, default="")
    currency = models.CharField(max_length=3)
    holder_sealed = models.BinaryField()
    holder_digest = models.BinaryField()
    address_sealed = models.BinaryField(null=True)
    address_digest = models.BinaryField(null=True)
    usable_from = models.DateTimeField(db_comment="End of the cooldown.")
    retired_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=100)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "payouts_destination_version"
        constraints: ClassVar = [
            OwnedKey(name="destination_version_key"),
            TiedCopy(
                name="destination_version_owns_its_destination",
                field="destination",
                copies=["customer"],
            ),
            models.UniqueConstraint(
                name="destination_version_number_is_unique",
                fields=["organization", "destination", "number"],
            ),
            models.UniqueConstraint(
                name="destination_version_in_use_is_one",
                fields=["organization", "destination"],
                condition=Q(retired_at__isnull=True),
            ),
            models.UniqueConstraint(
                name="destination_fingerprint_in_use_is_one",
                fields=["organization", "customer", "fingerprint"],
                condition=Q(retired_at__isnull=True),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("destination_versions_stay"),
            frozen_columns(
                "destination_version_is_what_it_was",
                columns=[
                    "id",
                    "organization_id",
                    "destination_id",
                    "customer_id",
                    "number",
                    "fingerprint",
                    "iban_tail",
                    "country",
                    "bic",
                    "currency",
                    "holder_digest",
                    "address_digest",
                    "created_at",
                ],
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"…{self.iban_tail}"
