from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ("ledger", "0040_closed_accounts_are_empty"),
    ]

    operations = together([
        ValidateConstraint("hold", "hold_is_captured_iff_nothing_is_left"),
        ValidateConstraint("hold", "hold_names_two_accounts"),
    ])
