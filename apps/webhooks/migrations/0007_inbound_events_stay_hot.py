from django.db import migrations

OPTIONS = {
    "fillfactor": 70,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_vacuum_cost_delay": 0,
}


class Migration(migrations.Migration):
    """Storage of the inbox, which is a queue: updates in place, and dead rows gone soon."""

    dependencies = [("webhooks", "0006_inbox")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE webhooks_inboundevent SET"
            f" ({', '.join(f'{key} = {value}' for key, value in OPTIONS.items())})",
            f"ALTER TABLE webhooks_inboundevent RESET ({', '.join(OPTIONS)})",
        )
    ]
