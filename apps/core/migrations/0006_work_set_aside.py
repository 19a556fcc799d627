from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """What was set aside is found without reading what is done; writers go on while they are built."""

    atomic = False

    dependencies = [
        ('core', '0005_batches_are_worked_in_portions'),
    ]

    operations = together([
        AddIndexConcurrently(
            model_name='eventwork',
            index=models.Index(condition=models.Q(('state__in', ['quarantined', 'failed', 'paused'])), fields=['state', 'next_attempt_at'], name='event_work_set_aside'),
        ),
        AddIndexConcurrently(
            model_name='jobrun',
            index=models.Index(condition=models.Q(('state__in', ['quarantined', 'failed', 'paused'])), fields=['state', 'next_attempt_at'], name='job_run_set_aside'),
        ),
        AddIndexConcurrently(
            model_name='outboxbatch',
            index=models.Index(condition=models.Q(('state__in', ['quarantined', 'failed', 'paused'])), fields=['state', 'next_attempt_at'], name='outbox_batch_set_aside'),
        ),
    ])
