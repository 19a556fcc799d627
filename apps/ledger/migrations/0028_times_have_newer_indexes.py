from django.db import migrations

from apps.core.changes import together
from apps.core.indexes import RemoveIndexConcurrently


class Migration(migrations.Migration):
    # Postgres takes an index away without stopping writers only outside a transaction.
    atomic = False

    dependencies = [
        ("ledger", "0027_holds_and_exchanges_are_found_by_their_time"),
    ]

    # Each takes away what is there, so a try that was cut off between them is done again.
    operations = together([
        RemoveIndexConcurrently("hold", "hold_created"),
        RemoveIndexConcurrently("fxtransfer", "fx_transfer_created"),
        RemoveIndexConcurrently("fxtransfer", "fx_transfer_effective"),
    ])
