from django.db import migrations


class Migration(migrations.Migration):
    """
    ANALYZE when balances have changed twenty times each, not one in ten of them.

    A balance changes with each transfer, and none of what statistics tell of the table does.
    """

    dependencies = [("ledger", "0033_who_opens_a_month_again_is_named")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE ledger_balance SET (autovacuum_analyze_scale_factor = 20)",
            "ALTER TABLE ledger_balance RESET (autovacuum_analyze_scale_factor)",
        )
    ]
