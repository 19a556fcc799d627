from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ("ledger", "0041_holds_are_bound_to_their_ends"),
    ]

    operations = together([
        ValidateConstraint("hold", "hold_has_something_left_unless_captured"),
        ValidateConstraint("hold", "hold_names_two_accounts"),
    ])
