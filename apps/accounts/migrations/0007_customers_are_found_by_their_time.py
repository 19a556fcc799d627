from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently

_INDEXES = {
    "customer": [
        models.Index(name="customer_made", fields=["organization", "created_at", "id"]),
    ],
}


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("accounts", "0006_freezes_from_before"),
    ]

    operations = together([
        AddIndexConcurrently(model, index) for model, indexes in _INDEXES.items() for index in indexes
    ])
