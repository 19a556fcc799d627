from apps.core.indexes import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """What a later handler can work, by its type; writers go on while the index is built."""

    atomic = False

    dependencies = [
        ('webhooks', '0011_ignored_events_are_released'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='inboundevent',
            index=models.Index(condition=models.Q(('outcome', 'ignored'), ('sealed_body__isnull', False)), fields=['organization', 'connection', 'type', 'id'], name='inbound_event_ignored'),
        ),
    ]
