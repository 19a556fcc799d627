from django.db import migrations

from apps.core.storage import StoreAsWork


class Migration(migrations.Migration):
    """Storage of the queue tables: many updates in place, and dead rows gone soon."""

    dependencies = [("banking", "0003_work_set_aside")]
    operations = [
        StoreAsWork("banking_connection_poll"),
        StoreAsWork("banking_file_work"),
        StoreAsWork("banking_line_queue"),
    ]
