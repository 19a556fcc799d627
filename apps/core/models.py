"""Rows every app leans on. They carry `organization_id` as a plain UUID: a key would point up."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.core.ids import new_id
from apps.core.triggers import append_only
from apps.core.work import WorkRow, work_indexes


class IdempotencyKey(models.Model):
    """One use of an Idempotency-Key: what it asked for, and what was made or refused."""

    pk = models.CompositePrimaryKey("organization_id", "key")
    organization_id = models.UUIDField()
    key = models.CharField(max_length=255)
    operation = models.CharField(max_length=64)
    fingerprint = models.BinaryField(db_comment="SHA-256 of operation and parts.")
    prefix = models.CharField(max_length=8, default="", db_comment="How resource_id is printed.")
    resource_id = models.UUIDField(db_comment="The id of what was made; fresh when refused.")
    refusal_code = models.CharField(max_length=64, null=True)  # noqa: DJ001  (NULL: not refused)
    refusal = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "core_idempotency_key"


class OutboxBatch(WorkRow):
    """
    All events of one transaction; a work row until the relay has given it its position.

    In Postgres it lies in weeks, under (organization_id, id); each week has a unique index by
    (organization_id, position), which is also how the feed is read (ADR 0107).
    """

    organization_id = models.UUIDField()
    inserted_at = models.DateTimeField(db_default=Now())
    position = models.BigIntegerField(null=True, db_comment="Place in the organisation's feed.")
    public = models.BooleanField()
    event_count = models.PositiveIntegerField()

    class Meta:
        db_table = "core_outbox_batch"
        indexes: ClassVar = [
            *work_indexes("outbox_batch"),
            models.Index(
                name="outbox_batch_unnumbered",
                fields=["organization_id", "inserted_at", "id"],
                condition=Q(public=True, position=None),
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="feed_position_is_of_public_events",
                condition=Q(position=None) | Q(public=True),
            ),
        ]


class OutboxEvent(models.Model):
    """
    A past fact, never changed. Its id is also the webhook-id of every delivery.

    In Postgres it lies in weeks, under (organization_id, id), each with the guard (ADR 0107).
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization_id = models.UUIDField()
    batch_id = models.UUIDField()
    ordinal = models.PositiveIntegerField(db_comment="Place within its transaction.")
    name = models.CharField(max_length=100)
    type = models.CharField(max_length=100)
    public = models.BooleanField()
    schema_version = models.PositiveSmallIntegerField()
    aggregate_type = models.CharField(max_length=50)
    aggregate_id = models.CharField(max_length=64)
    sequence = models.BigIntegerField()
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=100)
    request_id = models.CharField(max_length=128, default="")
    causation_id = models.UUIDField(null=True)
    traceparent = models.CharField(max_length=64, default="")
    data = models.JSONField()

    class Meta:
        db_table = "core_outbox_event"
        indexes: ClassVar = [
            models.Index(name="event_of_batch", fields=["organization_id", "batch_id", "ordinal"]),
            models.Index(
                name="event_of_aggregate",
                fields=["organization_id", "aggregate_type", "aggregate_id", "sequence"],
                # An entry has one event, which its batch leads to, and there are more of them
                # than of all else together.
                condition=~Q(aggregate_type="journal_entry"),
            ),
        ]
        triggers: ClassVar = [append_only("events_are_append_only")]


class FeedHead(models.Model):
    """The last position given in one organisation's feed, and the last that is no longer kept."""

    organization_id = models.UUIDField(primary_key=True)
    last_position = models.BigIntegerField(default=0)
    dropped_position = models.BigIntegerField(
        default=0, db_default=0, db_comment="Batches up to here went with their weeks."
    )
    kept_since = models.DateTimeField(
        null=True, db_comment="The beginning of the oldest week that is kept; NULL: none went."
    )

    class Meta:
        db_table = "core_feed_head"


class EventWork(WorkRow):
    """One batch, or one event of it, that one consumer still has to work."""

    organization_id = models.UUIDField()
    batch_id = models.UUIDField()
    consumer = models.CharField(max_length=50)
    ordinal = models.PositiveIntegerField(
        null=True, db_comment="The one event of a batch that was split; NULL: the whole batch."
    )
    next_ordinal = models.PositiveIntegerField(
        default=0,
        db_default=0,
        db_comment="Of a whole batch: the first event that was not worked or set apart yet.",
    )

    class Meta:
        db_table = "core_event_work"
        indexes: ClassVar = work_indexes("event_work", owner="organization_id")
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="batch_has_one_row_per_consumer",
                fields=["organization_id", "batch_id", "consumer", "ordinal"],
                nulls_distinct=False,
            ),
        ]


class AuditEvent(models.Model):
    """Something an actor did to a subject, and why. `before` and `after` are masked."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization_id = models.UUIDField(null=True, db_comment="NULL: an act on the platform itself.")
    recorded_at = models.DateTimeField(db_default=Now())
    actor_kind = models.CharField(max_length=10)
    actor_id = models.CharField(max_length=64)
    principal = models.CharField(max_length=64)
    act = models.CharField(max_length=100)
    subject_type = models.CharField(max_length=64)
    subject_id = models.CharField(max_length=64)
    reason = models.CharField(max_length=500, default="")
    request_id = models.CharField(max_length=128, default="")
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    outcome = models.CharField(max_length=10, default="done")
    code = models.CharField(max_length=64, default="")

    class Meta:
        db_table = "core_audit_event"
        indexes: ClassVar = [
            models.Index(
                name="audit_of_subject", fields=["organization_id", "subject_type", "subject_id"]
            ),
            models.Index(name="audit_of_actor", fields=["organization_id", "actor_id", "id"]),
        ]
        triggers: ClassVar = [append_only("audit_is_append_only")]


class DataKey(models.Model):
    """An organisation's data key, wrapped by the key-encryption key named in `kek_id`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization_id = models.UUIDField()
    kid = models.PositiveIntegerField(db_comment="Counts up per organisation; the newest seals.")
    kek_id = models.CharField(max_length=32)
    wrapped = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "core_data_key"
        constraints: ClassVar = [
            models.UniqueConstraint(name="data_key_kid", fields=["organization_id", "kid"]),
        ]


class JobRun(WorkRow):
    """One period of one scheduled job: exactly one row, however many planners insert it."""

    organization_id = models.UUIDField(null=True)
    kind = models.CharField(max_length=64)
    scope = models.CharField(max_length=64, default="")
    period = models.CharField(max_length=32, db_comment="ISO 8601: a local date, or an instant.")
    due_at = models.DateTimeField(db_comment="The instant the period's name stands for.")
    turns = models.PositiveIntegerField(
        default=0, db_default=0, db_comment="How often it stopped with more to do, and went on."
    )
    place = models.CharField(
        max_length=200, default="", db_default="", db_comment="Where it goes on; the job's own."
    )
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "core_job_run"
        indexes: ClassVar = [
            *work_indexes("job_run"),
            models.Index(name="job_run_of_kind", fields=["kind", "scope", "due_at"]),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="job_runs_once_per_period",
                fields=["organization_id", "kind", "scope", "period"],
                nulls_distinct=False,
            ),
        ]


class QueueHeartbeat(models.Model):
    """What is known of one queue's workers: the heartbeats sent to it, and the last one run."""

    queue = models.CharField(primary_key=True, max_length=32)
    sent_at = models.DateTimeField(null=True, db_comment="When the broker last took one.")
    unanswered_since = models.DateTimeField(
        null=True, db_comment="The first of a series without a gap, of which none was run."
    )
    beaten_at = models.DateTimeField(null=True, db_comment="When a worker last ran one.")
    worker = models.CharField(max_length=255, default="", db_default="")

    class Meta:
        db_table = "core_queue_heartbeat"
