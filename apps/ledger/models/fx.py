"""Money changed from one currency to another through the organisation's own liquidity."""

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import append_only
from apps.ledger.models.accounts import LedgerAccount


class FxTransfer(OrganizationOwned):
    """Two linked transfers: one currency into liquidity, the other out of it, at a quoted rate."""

    from_account = OwnedForeignKey(LedgerAccount)
    to_account = OwnedForeignKey(LedgerAccount)
    sold_minor = models.BigIntegerField()
    sold_currency = models.CharField(max_length=3)
    bought_minor = models.BigIntegerField()
    bought_currency = models.CharField(max_length=3)
    rate = models.DecimalField(
        max_digits=28, decimal_places=12, db_comment="Major units bought for one major unit sold."
    )
    remainder_minor = models.DecimalField(
        max_digits=28,
        decimal_places=20,
        db_comment="The part of a bought minor unit that rounding left to liquidity; 0 to below 1.",
    )
    source = models.CharField(max_length=100, db_comment="Whose quote it was.")
    quoted_at = models.DateTimeField()
    sold_entry_id = models.UUIDField()
    bought_entry_id = models.UUIDField()
    reference = models.CharField(max_length=255, null=True)  # noqa: DJ001  (NULL: none was given)
    description = models.CharField(max_length=500, default="")
    metadata = models.JSONField(default=dict)
    effective_at = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_fx_transfer"
        indexes: ClassVar = [
            models.Index(name="fx_transfer_made", fields=["organization", "created_at", "id"]),
            models.Index(name="fx_transfer_valued", fields=["organization", "effective_at", "id"]),
            models.Index(name="fx_transfer_from", fields=["organization", "from_account", "id"]),
            models.Index(name="fx_transfer_to", fields=["organization", "to_account", "id"]),
            models.Index(name="fx_transfer_of_sold", fields=["organization", "sold_entry_id"]),
            models.Index(name="fx_transfer_of_bought", fields=["organization", "bought_entry_id"]),
            GinIndex(
                name="fx_transfer_metadata",
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=~Q(metadata={}),
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="fx_transfer_key"),
            SameOrganization(name="fx_transfer_owns_its_source", field="from_account"),
            SameOrganization(name="fx_transfer_owns_its_target", field="to_account"),
            models.UniqueConstraint(
                name="fx_transfer_reference_is_unique",
                fields=["organization", "reference"],
                condition=Q(reference__isnull=False),
            ),
            models.CheckConstraint(
                name="fx_transfer_moves_money",
                condition=Q(sold_minor__gt=0, bought_minor__gt=0, rate__gt=0),
            ),
            models.CheckConstraint(
                name="fx_transfer_changes_currency",
                condition=~Q(sold_currency=F("bought_currency")),
            ),
            models.CheckConstraint(
                name="fx_transfer_rounds_for_liquidity",
                condition=Q(remainder_minor__gte=0, remainder_minor__lt=1),
            ),
        ]
        triggers: ClassVar = [append_only("fx_transfers_are_append_only")]
