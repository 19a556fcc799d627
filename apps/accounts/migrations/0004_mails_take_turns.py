from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    """A claim finds the mails of others behind one backlog; writers go on while it is built."""

    atomic = False

    dependencies = [
        ('accounts', '0003_contacts'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='mail',
            index=models.Index(condition=models.Q(('state__in', ['pending', 'leased'])), fields=['organization', 'next_attempt_at'], name='mail_turns'),
        ),
    ]
