from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0022_captures_are_found_by_their_entries"),
    ]

    operations = together([
        AddIndexConcurrently(
            "hold",
            models.Index(
                name=name,
                fields=["organization", account, "id"],
                condition=models.Q(status="open"),
            ),
        )
        for name, account in (
            ("hold_open_of_debit", "debit_account"),
            ("hold_open_of_credit", "credit_account"),
        )
    ])
