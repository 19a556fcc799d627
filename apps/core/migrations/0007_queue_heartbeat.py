from django.db import migrations, models


class Migration(migrations.Migration):
    """A row for each queue: what was sent to its workers, and what they ran."""

    dependencies = [("core", "0006_work_set_aside")]
    operations = [
        migrations.CreateModel(
            name="QueueHeartbeat",
            fields=[
                ("queue", models.CharField(max_length=32, primary_key=True, serialize=False)),
                (
                    "sent_at",
                    models.DateTimeField(db_comment="When the broker last took one.", null=True),
                ),
                (
                    "unanswered_since",
                    models.DateTimeField(
                        db_comment="The first of a series without a gap, of which none was run.",
                        null=True,
                    ),
                ),
                (
                    "beaten_at",
                    models.DateTimeField(db_comment="When a worker last ran one.", null=True),
                ),
                ("worker", models.CharField(db_default="", default="", max_length=255)),
            ],
            options={"db_table": "core_queue_heartbeat"},
        ),
    ]
