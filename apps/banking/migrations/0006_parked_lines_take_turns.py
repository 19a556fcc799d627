from django.db import migrations, models

from apps.core.changes import together


class Migration(migrations.Migration):
    """Each parked line is tried once after new lines came, however many never match."""

    dependencies = [
        ('banking', '0005_work_takes_turns'),
    ]

    operations = together([
        migrations.AddField(
            model_name='linequeue',
            name='turn',
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='banklinestatus',
            name='turn',
            field=models.IntegerField(db_comment="The queue's, when it was last looked at.", db_default=0, default=0),
        ),
    ])
