from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """A claim finds the open work of others behind one backlog; writers go on while it is built."""

    atomic = False

    dependencies = [
        ('accounts', '0002_guards_look_at_named_columns'),
        ('banking', '0004_work_rows_stay_hot'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='bankfilework',
            index=models.Index(condition=models.Q(('state__in', ['pending', 'leased'])), fields=['organization', 'next_attempt_at'], name='bank_file_work_turns'),
        ),
    ]
