from apps.core.indexes import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """A portion of what is set aside reads no more than that; writers go on while it is built."""

    atomic = False

    dependencies = [("webhooks", "0013_endpoints_change_in_portions")]

    operations = [
        AddIndexConcurrently(
            model_name="webhookdelivery",
            index=models.Index(
                name="webhook_delivery_set_aside",
                fields=["organization", "endpoint", "id"],
                condition=models.Q(status="paused"),
            ),
        ),
    ]
