from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_postings_carry_their_times")]
    operations = [
        migrations.AlterField(
            model_name="posting",
            name="effective_at",
            field=models.DateTimeField(db_comment="Its entry's."),
        ),
        migrations.AlterField(
            model_name="posting",
            name="recorded_at",
            field=models.DateTimeField(db_comment="Its entry's."),
        ),
    ]
