from django.db import migrations, models

from apps.core.changes import together


class Migration(migrations.Migration):
    """What the holder of a lane goes by: on how many lanes it is spread, and of which revision."""

    dependencies = [("webhooks", "0009_work_takes_turns")]

    operations = together([
        # Whoever reads endpoints queues up behind this, so it gives up before they do, and can be
        # run again.
        migrations.RunSQL("SET LOCAL lock_timeout = '2s'", migrations.RunSQL.noop),
        migrations.AddField(
            model_name="webhookendpoint",
            name="lanes",
            field=models.PositiveSmallIntegerField(
                default=4,
                db_default=4,
                db_comment="On so many what is owed is spread; max_in_flight once none of them is"
                " held.",
            ),
        ),
        migrations.AddField(
            model_name="webhookendpoint",
            name="revision",
            field=models.PositiveIntegerField(
                default=0,
                db_default=0,
                db_comment="Another one: what a lane's holder was told to send is out of date.",
            ),
        ),
        migrations.RunSQL(
            "UPDATE webhooks_webhookendpoint SET lanes = max_in_flight", migrations.RunSQL.noop
        ),
        migrations.RemoveConstraint(
            model_name="webhookendpoint", name="webhook_endpoint_has_one_to_eight_lanes"
        ),
        migrations.AddConstraint(
            model_name="webhookendpoint",
            constraint=models.CheckConstraint(
                name="webhook_endpoint_has_one_to_eight_lanes",
                condition=models.Q(
                    ("max_in_flight__gte", 1),
                    ("max_in_flight__lte", 8),
                    ("lanes__gte", 1),
                    ("lanes__lte", 8),
                ),
            ),
        ),
    ])
