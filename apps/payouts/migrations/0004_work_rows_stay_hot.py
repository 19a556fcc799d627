from django.db import migrations

from apps.core.storage import StoreAsWork


class Migration(migrations.Migration):
    """Storage of the queue tables: many updates in place, and dead rows gone soon."""

    dependencies = [("payouts", "0003_work_set_aside")]
    operations = [StoreAsWork("payouts_batch_work")]
