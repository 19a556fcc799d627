from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """What was set aside is found without reading what is done; writers go on while they are built."""

    atomic = False

    dependencies = [
        ('banking', '0002_guards_look_at_named_columns'),
    ]

    operations = together([
        AddIndexConcurrently(
            model_name='bankfilework',
            index=models.Index(condition=models.Q(('state__in', ['quarantined', 'failed', 'paused'])), fields=['state', 'next_attempt_at'], name='bank_file_work_set_aside'),
        ),
        AddIndexConcurrently(
            model_name='connectionpoll',
            index=models.Index(condition=models.Q(('state__in', ['quarantined', 'failed', 'paused'])), fields=['state', 'next_attempt_at'], name='connection_poll_set_aside'),
        ),
        AddIndexConcurrently(
            model_name='linequeue',
            index=models.Index(condition=models.Q(('state__in', ['quarantined', 'failed', 'paused'])), fields=['state', 'next_attempt_at'], name='bank_line_queue_set_aside'),
        ),
    ])
