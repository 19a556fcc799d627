from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """A claim finds the open work of others behind one backlog; writers go on while it is built."""

    atomic = False

    dependencies = [
        ('core', '0011_weeks_are_analyzed'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='eventwork',
            index=models.Index(condition=models.Q(('state__in', ['pending', 'leased'])), fields=['organization_id', 'next_attempt_at'], name='event_work_turns'),
        ),
    ]
