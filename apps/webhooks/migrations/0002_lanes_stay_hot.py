from django.db import migrations

from apps.core.storage import StoreAsWork


class Migration(migrations.Migration):
    """Storage of the queue table: many updates in place, and dead rows gone soon."""

    dependencies = [("webhooks", "0001_initial")]
    operations = [StoreAsWork("webhooks_webhooklane")]
