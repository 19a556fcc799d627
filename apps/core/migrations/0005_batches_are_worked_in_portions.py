from django.db import migrations, models


class Migration(migrations.Migration):
    """Where a consumer goes on in a batch. The default is the database's: no row is rewritten."""

    dependencies = [("core", "0004_entries_without_an_index")]
    operations = [
        migrations.AddField(
            model_name="eventwork",
            name="next_ordinal",
            field=models.PositiveIntegerField(
                default=0,
                db_default=0,
                db_comment="Of a whole batch: the first event that was not worked or set apart yet.",
            ),
        ),
    ]
