from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently

_INDEXES = {
    "ledgeraccount": [
        models.Index(name="ledger_account_created", fields=["organization", "created_at", "id"]),
    ],
    "balancemonitor": [
        models.Index(name="monitor_created", fields=["organization", "created_at", "id"]),
    ],
    "fxtransfer": [
        models.Index(name="fx_transfer_from", fields=["organization", "from_account", "id"]),
        models.Index(name="fx_transfer_to", fields=["organization", "to_account", "id"]),
    ],
}


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0025_ids_of_a_batch_are_kept_as_they_are"),
    ]

    operations = together([
        AddIndexConcurrently(model, index) for model, indexes in _INDEXES.items() for index in indexes
    ])
