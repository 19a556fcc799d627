from django.db import migrations

from apps.core.storage import StoreAsWork


class Migration(migrations.Migration):
    """Storage of the inbox, which is a queue: updates in place, and dead rows gone soon."""

    dependencies = [("webhooks", "0006_inbox")]
    operations = [StoreAsWork("webhooks_inboundevent")]
