from django.db import migrations, models

from apps.core.changes import together


class Migration(migrations.Migration):
    """How often a period's run stopped, and where it goes on. Defaults are the database's: no row is rewritten."""

    dependencies = [("core", "0009_events_lie_in_weeks")]
    operations = together([
        migrations.AddField(
            model_name="jobrun",
            name="turns",
            field=models.PositiveIntegerField(
                default=0,
                db_default=0,
                db_comment="How often it stopped with more to do, and went on.",
            ),
        ),
        migrations.AddField(
            model_name="jobrun",
            name="place",
            field=models.CharField(
                max_length=200,
                default="",
                db_default="",
                db_comment="Where it goes on; the job's own.",
            ),
        ),
    ])
