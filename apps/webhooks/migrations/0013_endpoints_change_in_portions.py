import apps.core.constraints
import apps.core.ids
import apps.core.tenancy
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

from apps.core.changes import together
from apps.core.storage import StoreAsWork


class Migration(migrations.Migration):
    """What an act on an endpoint leaves to a worker: its row of work, and what its portions go by."""

    dependencies = [
        ("accounts", "0003_contacts"),
        ("webhooks", "0012_ignored_events_are_found"),
    ]

    operations = together([
        # Whoever reads endpoints queues up behind this, so it gives up before they do, and can be
        # run again.
        migrations.RunSQL("SET LOCAL lock_timeout = '2s'", migrations.RunSQL.noop),
        migrations.AddField(
            model_name="webhookendpoint",
            name="is_changing",
            field=models.BooleanField(
                db_comment="What is open is being brought in line with this row; no lane is opened.",
                db_default=False,
                default=False,
            ),
        ),
        migrations.AddField(
            model_name="webhookendpoint",
            name="resume_from",
            field=models.DateTimeField(
                db_comment="What was set aside is being sent from then on, the older canceled; or NULL.",
                null=True,
            ),
        ),
        migrations.CreateModel(
            name="WebhookChange",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=apps.core.ids.new_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("leased", "Leased"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                            ("quarantined", "Quarantined"),
                            ("paused", "Paused"),
                        ],
                        db_default="pending",
                        default="pending",
                        max_length=11,
                    ),
                ),
                (
                    "attempts",
                    models.PositiveIntegerField(db_comment="Raised in the claim.", default=0),
                ),
                (
                    "lapses",
                    models.PositiveSmallIntegerField(
                        db_comment="Leases in a row that ended with no outcome.", default=0
                    ),
                ),
                (
                    "next_attempt_at",
                    models.DateTimeField(
                        db_comment="When due; a claim sets it to the end of its lease.",
                        db_default=django.db.models.functions.datetime.Now(),
                    ),
                ),
                ("lease_until", models.DateTimeField(null=True)),
                ("lease_token", models.UUIDField(null=True)),
                ("last_error_code", models.CharField(default="", max_length=64)),
                ("traceparent", models.CharField(default="", max_length=64)),
                ("after_aggregate", models.CharField(blank=True, default="", max_length=64)),
                (
                    "after_sequence",
                    models.BigIntegerField(db_comment="NULL: all of it was.", null=True),
                ),
            ],
        ),
        migrations.AddField(
            model_name="webhookchange",
            name="endpoint",
            field=apps.core.tenancy.OwnedForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="webhooks.webhookendpoint",
            ),
        ),
        migrations.AddField(
            model_name="webhookchange",
            name="organization",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="accounts.organization",
            ),
        ),
        migrations.AddIndex(
            model_name="webhookchange",
            index=models.Index(
                condition=models.Q(("state__in", ["pending", "leased"])),
                fields=["next_attempt_at"],
                name="webhook_change_due",
            ),
        ),
        migrations.AddIndex(
            model_name="webhookchange",
            index=models.Index(
                condition=models.Q(("state__in", ["quarantined", "failed", "paused"])),
                fields=["state", "next_attempt_at"],
                name="webhook_change_set_aside",
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookchange",
            constraint=apps.core.constraints.SameOrganization(
                field="endpoint", name="webhook_change_is_of_its_endpoint"
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookchange",
            constraint=models.UniqueConstraint(
                fields=("organization", "endpoint"), name="webhook_endpoint_has_one_change"
            ),
        ),
        StoreAsWork("webhooks_webhookchange"),
    ])
