from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """A claim finds the open work of others behind one backlog; writers go on while it is built."""

    atomic = False

    dependencies = [
        ('payouts', '0004_work_rows_stay_hot'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='batchwork',
            index=models.Index(condition=models.Q(('state__in', ['pending', 'leased'])), fields=['organization_id', 'next_attempt_at'], name='payout_batch_work_turns'),
        ),
    ]
