"""The rows of work: their states, how they are found, and how their tables are stored."""

from typing import ClassVar, Final, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.core import claiming
from apps.core.ids import new_id


class WorkState(models.TextChoices):
    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    PAUSED = "paused"


# Of every table of work rows, set by a migration: room to update in place, dead rows gone soon.
STORAGE: Final = {
    "fillfactor": "70",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "500",
    "autovacuum_vacuum_cost_delay": "0",
}
OPEN: Final = (WorkState.PENDING, WorkState.LEASED)
# Nobody works these until a person releases them.
SET_ASIDE: Final = (WorkState.QUARANTINED, WorkState.FAILED, WorkState.PAUSED)


class WorkRow(models.Model):
    """One durable piece of work. Leases and due times are on the database's clock."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    state = models.CharField(
        max_length=11, choices=WorkState, default=WorkState.PENDING, db_default=WorkState.PENDING
    )
    attempts = models.PositiveIntegerField(default=0, db_comment="Raised in the claim.")
    lapses = models.PositiveSmallIntegerField(
        default=0, db_comment="Leases in a row that ended with no outcome."
    )
    next_attempt_at = models.DateTimeField(
        db_default=Now(), db_comment="When due; a claim sets it to the end of its lease."
    )
    lease_until = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    last_error_code = models.CharField(max_length=64, default="")
    traceparent = models.CharField(max_length=64, default="")

    objects: ClassVar[models.Manager[Self]] = models.Manager()

    class Meta:
        abstract = True


def work_indexes(name: str, *, owner: str | None = None) -> list[models.Index]:
    """
    Return the partial indexes of a work table; the only ones that start with no organisation.

    A claim walks what is open. People look at what was set aside: without an index of its own,
    finding three such rows would read every row that was ever done. `owner`, the field of the
    organization, is for rows of which one organization may have a backlog: a claim finds what the
    others have behind it by one more index. Rows that live on, one a lane or an account, go without
    it: each comes back behind what is due, so none is before another twice.
    """
    is_open = Q(state__in=list(OPEN))
    turns = (
        [
            models.Index(
                name=f"{name}{claiming.TURNS}", fields=[owner, "next_attempt_at"], condition=is_open
            )
        ]
        if owner
        else []
    )
    return [
        *turns,
        models.Index(name=f"{name}_due", fields=["next_attempt_at"], condition=is_open),
        models.Index(
            name=f"{name}_set_aside",
            fields=["state", "next_attempt_at"],
            condition=Q(state__in=list(SET_ASIDE)),
        ),
    ]


def has_organization(model: type[WorkRow]) -> bool:
    """Say whether rows of this model name an organization; work of the platform does not."""
    return any(field.attname == "organization_id" for field in model._meta.concrete_fields)
