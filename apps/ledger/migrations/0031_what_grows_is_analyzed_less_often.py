from django.db import migrations

_TABLES = ("ledger_journal_entry", "ledger_posting")


class Migration(migrations.Migration):
    """ANALYZE when half as many rows are new, not a tenth: two cores feel each run (ADR 0179)."""

    dependencies = [
        ("core", "0014_what_grows_is_analyzed_less_often"),
        ("ledger", "0030_plain_transfers_are_one_statement"),
    ]
    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET (autovacuum_analyze_scale_factor = 0.5)",
            f"ALTER TABLE {table} RESET (autovacuum_analyze_scale_factor)",
        )
        for table in _TABLES
    ]
