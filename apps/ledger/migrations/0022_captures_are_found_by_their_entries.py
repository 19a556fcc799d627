from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0021_totals_by_type"),
    ]

    operations = [
        AddIndexConcurrently(
            "holdevent",
            models.Index(
                name="hold_event_of_entry",
                fields=["organization", "entry_id"],
                condition=models.Q(entry_id__isnull=False),
            ),
        ),
    ]
