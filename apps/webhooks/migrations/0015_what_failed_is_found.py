from apps.core.indexes import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """What failed for good is sent again without reading all that was ever owed."""

    atomic = False

    dependencies = [("webhooks", "0014_what_is_set_aside_is_found")]

    operations = [
        AddIndexConcurrently(
            model_name="webhookdelivery",
            index=models.Index(
                name="webhook_delivery_failed",
                fields=["organization", "endpoint", "id"],
                condition=models.Q(status="failed"),
            ),
        ),
    ]
