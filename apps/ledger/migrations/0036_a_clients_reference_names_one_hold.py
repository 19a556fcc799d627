from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddUniqueConcurrently


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0035_holds_keep_their_references"),
    ]

    # Both may be done again after a try that was cut off between them.
    operations = together([
        AddUniqueConcurrently(
            "hold",
            models.UniqueConstraint(
                condition=models.Q(("keeps_reference", True)),
                fields=("organization", "reference"),
                name="hold_reference_is_unique",
            ),
        ),
        ValidateConstraint("hold", "hold_keeps_a_reference_it_has"),
    ])
