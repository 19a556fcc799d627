from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently

_INDEXES = {
    "hold": [
        models.Index(name="hold_placed", fields=["organization", "created_at", "id"]),
    ],
    "fxtransfer": [
        models.Index(name="fx_transfer_made", fields=["organization", "created_at", "id"]),
        models.Index(name="fx_transfer_valued", fields=["organization", "effective_at", "id"]),
    ],
}


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0026_accounts_are_found_by_their_time"),
    ]

    operations = together([
        AddIndexConcurrently(model, index) for model, indexes in _INDEXES.items() for index in indexes
    ])
