from django.contrib.postgres.indexes import GinIndex
from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently

_INDEXES = {
    "hold": [
        models.Index(name="hold_of_debit", fields=["organization", "debit_account", "id"]),
        models.Index(name="hold_of_credit", fields=["organization", "credit_account", "id"]),
        models.Index(
            name="hold_of_reference",
            fields=["organization", "reference", "id"],
            condition=models.Q(reference__isnull=False),
        ),
        models.Index(name="hold_created", fields=["organization", "created_at"]),
        GinIndex(
            name="hold_metadata",
            fields=["metadata"],
            opclasses=["jsonb_path_ops"],
            condition=~models.Q(metadata={}),
        ),
    ],
    "ledgeraccount": [
        GinIndex(
            name="ledger_account_metadata",
            fields=["metadata"],
            opclasses=["jsonb_path_ops"],
            condition=~models.Q(metadata={}),
        ),
    ],
    "fxtransfer": [
        models.Index(name="fx_transfer_created", fields=["organization", "created_at"]),
        models.Index(name="fx_transfer_effective", fields=["organization", "effective_at"]),
    ],
}


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0013_guards_of_several_organizations"),
    ]

    operations = together([
        AddIndexConcurrently(model, index) for model, indexes in _INDEXES.items() for index in indexes
    ])
