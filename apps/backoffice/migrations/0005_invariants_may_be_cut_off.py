from django.db import migrations, models


class Migration(migrations.Migration):
    """A run says whether it left out a part of the invariant that the next one goes on with."""

    dependencies = [("backoffice", "0004_guards_look_at_named_columns")]
    operations = [
        migrations.AddField(
            model_name="invariantcheck",
            name="next_is_cut",
            field=models.BooleanField(
                default=False,
                db_default=False,
                db_comment="Whether a part of that one was left out: its statement took too long.",
            ),
        ),
        migrations.AlterField(
            model_name="invariantcheck",
            name="unanswered",
            field=models.JSONField(
                default=list,
                db_comment="Names of those of which nothing is known, or not of all rows.",
            ),
        ),
    ]
