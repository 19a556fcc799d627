from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """A claim finds the open work of others behind one backlog; writers go on while it is built."""

    atomic = False

    dependencies = [
        ('accounts', '0002_guards_look_at_named_columns'),
        ('webhooks', '0008_kept_for_a_month'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='inboundevent',
            index=models.Index(condition=models.Q(('state__in', ['pending', 'leased'])), fields=['organization', 'next_attempt_at'], name='inbound_event_turns'),
        ),
    ]
