from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

from apps.core.changes import together


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0007_customers_are_found_by_their_time"),
        ("ledger", "0040_closed_accounts_are_empty"),
    ]

    # What stands is looked at by the next one, which nobody waits for.
    operations = together([
        migrations.RemoveConstraint("hold", "hold_open_iff_something_is_left"),
        AddConstraintNotValid(
            "hold",
            models.CheckConstraint(
                condition=models.Q(
                    ("status", "captured"),
                    ("captured_minor__lt", models.F("amount_minor")),
                    _connector="OR",
                ),
                name="hold_has_something_left_unless_captured",
            ),
        ),
        AddConstraintNotValid(
            "hold",
            models.CheckConstraint(
                condition=models.Q(("debit_account", models.F("credit_account")), _negated=True),
                name="hold_names_two_accounts",
            ),
        ),
    ])
