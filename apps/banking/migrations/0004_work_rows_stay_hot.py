from django.db import migrations

TABLES = ["banking_connection_poll", "banking_file_work", "banking_line_queue"]
OPTIONS = {
    "fillfactor": 70,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_vacuum_cost_delay": 0,
}


class Migration(migrations.Migration):
    """Storage of the queue tables: many updates in place, and dead rows gone soon."""

    dependencies = [("banking", "0003_work_set_aside")]
    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET ({', '.join(f'{k} = {v}' for k, v in OPTIONS.items())})",
            f"ALTER TABLE {table} RESET ({', '.join(OPTIONS)})",
        )
        for table in TABLES
    ]
