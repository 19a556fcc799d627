from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0022_captures_are_found_by_their_entries"),
    ]

    operations = [
        AddIndexConcurrently(
            "hold",
            models.Index(
                name="hold_open_of_credit",
                fields=["organization", "credit_account"],
                condition=models.Q(status="open"),
            ),
        ),
    ]
