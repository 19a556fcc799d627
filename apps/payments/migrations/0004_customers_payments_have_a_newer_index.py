from django.db import migrations

from apps.core.indexes import RemoveIndexConcurrently


class Migration(migrations.Migration):
    # Postgres takes an index away without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("payments", "0003_payments_are_found_by_their_time"),
    ]

    operations = [RemoveIndexConcurrently("payment", "payment_of")]
