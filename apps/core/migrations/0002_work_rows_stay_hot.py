from django.db import migrations

TABLES = ["core_outbox_batch", "core_event_work", "core_job_run"]
OPTIONS = {
    "fillfactor": 70,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_vacuum_cost_delay": 0,
}


class Migration(migrations.Migration):
    """Storage of the queue tables: many updates in place, and dead rows gone soon."""

    dependencies = [("core", "0001_initial")]
    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET ({', '.join(f'{k} = {v}' for k, v in OPTIONS.items())})",
            f"ALTER TABLE {table} RESET ({', '.join(OPTIONS)})",
        )
        for table in TABLES
    ]
