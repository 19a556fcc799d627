from django.db import migrations


class Migration(migrations.Migration):
    """Leave room in each page, so that an update of a balance stays in it and touches no index."""

    dependencies = [("ledger", "0001_initial")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE ledger_balance SET (fillfactor = 50, autovacuum_vacuum_scale_factor ="
            " 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0)",
            "ALTER TABLE ledger_balance RESET (fillfactor, autovacuum_vacuum_scale_factor,"
            " autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay)",
        )
    ]
