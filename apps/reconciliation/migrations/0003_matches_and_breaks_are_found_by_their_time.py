from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently

_INDEXES = {
    "match": [
        models.Index(name="match_of_line", fields=["organization", "bank_line", "id"]),
        models.Index(name="match_made", fields=["organization", "created_at", "id"]),
    ],
    "break": [
        models.Index(name="break_first_seen", fields=["organization", "first_seen_at", "id"]),
    ],
}


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("reconciliation", "0002_guards_look_at_named_columns"),
    ]

    operations = together([
        AddIndexConcurrently(model, index) for model, indexes in _INDEXES.items() for index in indexes
    ])
