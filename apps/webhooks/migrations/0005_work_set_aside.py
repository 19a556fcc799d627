from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """What was set aside is found without reading what is done; writers go on while they are built."""

    atomic = False

    dependencies = [
        ('webhooks', '0004_faults_of_ours_are_outcomes'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='webhooklane',
            index=models.Index(condition=models.Q(('state__in', ['quarantined', 'failed', 'paused'])), fields=['state', 'next_attempt_at'], name='webhook_lane_set_aside'),
        ),
    ]
