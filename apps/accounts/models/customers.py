"""The customers whose money an organization keeps with us."""

from typing import override

from django.db import models
from django.db.models import Q

from apps.accounts.states import MOVES, CustomerState
from apps.core.constraints import OwnedKey
from apps.core.tenancy import OrganizationOwned
from apps.core.triggers import frozen_columns, moves_only, never_deleted


class Customer(OrganizationOwned):
    """The party whose money an organization keeps with us; name and e-mail are encrypted."""

    external_id = models.CharField(max_length=100, null=True)  # noqa: DJ001 - absent is not ""
    name_sealed = models.BinaryField()
    email_sealed = models.BinaryField(null=True)
    email_index = models.BinaryField(null=True, db_comment="Blind index, for exact search.")
    state = models.CharField(max_length=8, choices=CustomerState, default=CustomerState.OPEN)
    frozen_at = models.DateTimeField(null=True)
    frozen_by = models.CharField(max_length=64, blank=True, default="")
    is_frozen_by_compliance = models.BooleanField(
        default=False,
        db_default=False,
        db_comment="What the person was when freezing; they alone lift it.",
    )
    metadata = models.JSONField(default=dict)
    event_sequence = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(name="customer_by_email", fields=["organization", "email_index"]),
            models.Index(name="customer_made", fields=["organization", "created_at", "id"]),
        ]
        constraints = [
            OwnedKey(name="customer_of_its_organization"),
            models.UniqueConstraint(
                name="customer_external_id_is_unique", fields=["organization", "external_id"]
            ),
            models.CheckConstraint(
                name="customer_state_is_known", condition=Q(state__in=CustomerState.values)
            ),
            models.CheckConstraint(
                name="customer_is_frozen_by_somebody",
                condition=Q(state="frozen", frozen_at__isnull=False) & ~Q(frozen_by="")
                | ~Q(state="frozen"),
            ),
            models.CheckConstraint(
                name="customer_of_compliance_is_not_open",
                condition=Q(is_frozen_by_compliance=False) | ~Q(state="open"),
            ),
        ]
        triggers = [
            never_deleted("customer_is_never_deleted"),
            moves_only("customer_moves", moves=MOVES),
            frozen_columns(
                "customer_stays_with_its_organization",
                columns=["id", "organization_id", "created_at"],
            ),
        ]

    @override
    def __str__(self) -> str:
        return self.external_id or str(self.pk)
