"""Balances that somebody wants to be told about."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from apps.core.constraints import OwnedKey, SameOrganization
from apps.core.tenancy import OrganizationOwned, OwnedForeignKey
from apps.core.triggers import frozen_columns, never_deleted
from apps.ledger.models.accounts import LedgerAccount
from apps.ledger.rules import MonitorDirection, MonitorMeasure


class BalanceMonitor(OrganizationOwned):
    """Tells once each time a balance crosses a threshold, not while it stays beyond."""

    account = OwnedForeignKey(LedgerAccount)
    measure = models.CharField(max_length=9, choices=[(m.value, m.value) for m in MonitorMeasure])
    direction = models.CharField(
        max_length=5, choices=[(d.value, d.value) for d in MonitorDirection]
    )
    threshold_minor = models.BigIntegerField(db_comment="Beyond it, exclusive, it tells.")
    description = models.CharField(max_length=500, default="")
    is_beyond = models.BooleanField(db_comment="Whether the balance is beyond the threshold now.")
    triggered = models.BigIntegerField(default=0, db_comment="How often it told.")
    triggered_at = models.DateTimeField(null=True)
    is_active = models.BooleanField(default=True)
    event_sequence = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "ledger_balance_monitor"
        indexes: ClassVar = [
            models.Index(name="monitor_created", fields=["organization", "created_at", "id"]),
            models.Index(
                name="monitor_of_account",
                fields=["organization", "account"],
                condition=Q(is_active=True),
            ),
        ]
        constraints: ClassVar = [
            OwnedKey(name="balance_monitor_key"),
            SameOrganization(name="balance_monitor_owns_its_account", field="account"),
            models.CheckConstraint(
                name="balance_monitor_measure_is_known",
                condition=Q(measure__in=[m.value for m in MonitorMeasure]),
            ),
            models.CheckConstraint(
                name="balance_monitor_direction_is_known",
                condition=Q(direction__in=[d.value for d in MonitorDirection]),
            ),
        ]
        triggers: ClassVar = [
            never_deleted("balance_monitors_stay"),
            frozen_columns(
                "balance_monitor_is_what_it_was",
                columns=[
                    "id",
                    "organization_id",
                    "account_id",
                    "measure",
                    "direction",
                    "threshold_minor",
                ],
            ),
        ]
