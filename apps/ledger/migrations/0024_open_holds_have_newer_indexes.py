from django.db import migrations

from apps.core.indexes import RemoveIndexConcurrently


class Migration(migrations.Migration):
    # Postgres takes an index away without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0023_open_holds_of_both_sides"),
    ]

    operations = [RemoveIndexConcurrently("hold", "hold_open_of_account")]
