from django.contrib.postgres.indexes import GinIndex
from django.db import migrations, models

from apps.core.indexes import AddIndexConcurrently


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0019_versions_without_gaps"),
    ]

    operations = [
        AddIndexConcurrently(
            "fxtransfer",
            GinIndex(
                name="fx_transfer_metadata",
                fields=["metadata"],
                opclasses=["jsonb_path_ops"],
                condition=~models.Q(metadata={}),
            ),
        ),
    ]
