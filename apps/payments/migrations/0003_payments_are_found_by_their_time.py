from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently

_INDEXES = {
    "virtualreference": [
        models.Index(name="virtual_reference_made", fields=["organization", "created_at", "id"]),
    ],
    "payment": [
        models.Index(name="payment_of_customer", fields=["organization", "customer", "-id"]),
        models.Index(name="payment_made", fields=["organization", "created_at", "id"]),
    ],
    "unmatchedmoney": [
        models.Index(name="unmatched_money_made", fields=["organization", "created_at", "id"]),
    ],
}


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("payments", "0002_guards_look_at_named_columns"),
    ]

    operations = together([
        AddIndexConcurrently(model, index) for model, indexes in _INDEXES.items() for index in indexes
    ])
