from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently

_INDEXES = {
    "bankfile": [
        models.Index(name="bank_file_made", fields=["organization", "created_at", "id"]),
    ],
    "bankstatement": [
        models.Index(name="bank_statement_made", fields=["organization", "created_at", "id"]),
    ],
}


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("banking", "0008_lone_pages_find_their_account"),
    ]

    operations = together([
        AddIndexConcurrently(model, index) for model, indexes in _INDEXES.items() for index in indexes
    ])
