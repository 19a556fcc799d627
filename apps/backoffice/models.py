"""What the charts read: figures per day, rewritten by a job while the day can still change."""

from typing import ClassVar, override

from django.db import models
from django.db.models import Q

from apps.core.ids import new_id
from apps.core.tenancy import OrganizationOwned
from apps.core.triggers import append_only


class Metric(models.TextChoices):
    """What is counted; money in minor units of its currency."""

    MONEY_IN = "money_in"
    MONEY_OUT = "money_out"


class DailyMetric(OrganizationOwned):
    """One figure of one organization on one day, in one currency; a copy, never the truth."""

    day = models.DateField()
    name = models.CharField(max_length=32, choices=Metric)
    currency = models.CharField(max_length=3)
    value = models.BigIntegerField()
    rolled_up_at = models.DateTimeField()

    class Meta:
        db_table = "backoffice_daily_metric"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="daily_metric_is_one", fields=["organization", "day", "name", "currency"]
            ),
            models.CheckConstraint(
                name="daily_metric_is_known", condition=Q(name__in=Metric.values)
            ),
        ]

    @override
    def __str__(self) -> str:
        return f"{self.name} on {self.day}"


class InvariantCheck(models.Model):
    """
    A run of the invariants: when, how many are answered, and which did not hold as last seen.

    Large books take several runs to be gone through; each goes on where the one before ended.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    checked_at = models.DateTimeField()
    statement_count = models.PositiveIntegerField()
    broken = models.JSONField(default=list, db_comment="Names of those that returned a row.")
    unanswered = models.JSONField(
        default=list, db_comment="Names of those that no run has come to the end of yet."
    )
    next_name = models.CharField(
        max_length=100, default="", db_comment="Where the next run goes on; empty: at the first."
    )
    next_organization_id = models.UUIDField(null=True)
    next_key = models.UUIDField(null=True)

    class Meta:
        db_table = "backoffice_invariant_check"
        triggers: ClassVar = [append_only("invariant_checks_are_append_only")]

    @override
    def __str__(self) -> str:
        return f"{self.statement_count} statements at {self.checked_at}"
