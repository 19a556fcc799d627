from apps.core.indexes import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """The next parked line is found without reading what else is in suspense; writers go on."""

    atomic = False

    dependencies = [
        ('banking', '0006_parked_lines_take_turns'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='banklinestatus',
            index=models.Index(condition=models.Q(('reason', 'parked'), ('state', 'in_suspense')), fields=['organization', 'bank_account', 'turn', 'booking_date', 'line'], name='bank_line_status_parked'),
        ),
    ]
