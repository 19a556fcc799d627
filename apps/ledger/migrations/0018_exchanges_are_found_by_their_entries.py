from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0017_what_holds_and_periods_are"),
    ]

    operations = together([
        AddIndexConcurrently(
            "fxtransfer",
            models.Index(name="fx_transfer_of_sold", fields=["organization", "sold_entry_id"]),
        ),
        AddIndexConcurrently(
            "fxtransfer",
            models.Index(name="fx_transfer_of_bought", fields=["organization", "bought_entry_id"]),
        ),
    ])
