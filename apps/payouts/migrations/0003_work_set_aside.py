from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """What was set aside is found without reading what is done; writers go on while they are built."""

    atomic = False

    dependencies = [
        ('payouts', '0002_guards_look_at_named_columns'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='batchwork',
            index=models.Index(condition=models.Q(('state__in', ['quarantined', 'failed', 'paused'])), fields=['state', 'next_attempt_at'], name='payout_batch_work_set_aside'),
        ),
    ]
