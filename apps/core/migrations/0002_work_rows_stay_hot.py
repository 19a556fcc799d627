from django.db import migrations

from apps.core.storage import StoreAsWork


class Migration(migrations.Migration):
    """Storage of the queue tables: many updates in place, and dead rows gone soon."""

    dependencies = [("core", "0001_initial")]
    operations = [
        StoreAsWork("core_outbox_batch"),
        StoreAsWork("core_event_work"),
        StoreAsWork("core_job_run"),
    ]
