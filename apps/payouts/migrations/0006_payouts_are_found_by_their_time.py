from django.db import migrations, models

from apps.core.changes import together
from apps.core.indexes import AddIndexConcurrently

_INDEXES = {
    "destination": [
        models.Index(name="destination_made", fields=["organization", "created_at", "id"]),
    ],
    "payout": [
        models.Index(name="payout_requested", fields=["organization", "requested_at", "id"]),
    ],
}


class Migration(migrations.Migration):
    # Postgres builds an index without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("payouts", "0005_work_takes_turns"),
    ]

    operations = together([
        AddIndexConcurrently(model, index) for model, indexes in _INDEXES.items() for index in indexes
    ])
