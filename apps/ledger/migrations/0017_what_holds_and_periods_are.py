from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    """Rows that were there before are looked at without a lock that writers wait for."""

    dependencies = [
        ("ledger", "0016_what_holds_and_periods_may_be"),
    ]

    operations = [
        ValidateConstraint("hold", "hold_status_is_known"),
        ValidateConstraint("holdevent", "hold_event_says_what_happened"),
        ValidateConstraint("period", "period_state_is_known"),
    ]
