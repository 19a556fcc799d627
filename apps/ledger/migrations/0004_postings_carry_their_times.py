from django.db import migrations

# Postings are append-only, also for a migration: the guard steps aside for the one statement that
# gives old rows the two times of their entry.
_FILL = """
    ALTER TABLE ledger_posting DISABLE TRIGGER USER;
    UPDATE ledger_posting AS p
       SET effective_at = e.effective_at, recorded_at = e.recorded_at
      FROM ledger_journal_entry AS e
     WHERE e.organization_id = p.organization_id AND e.id = p.entry_id;
    ALTER TABLE ledger_posting ENABLE TRIGGER USER;
    UPDATE ledger_balance AS b
       SET latest_effective_at = p.latest
      FROM (SELECT organization_id, account_id, MAX(effective_at) AS latest
              FROM ledger_posting GROUP BY 1, 2) AS p
     WHERE p.organization_id = b.organization_id AND p.account_id = b.id;
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_the_whole_ledger")]
    operations = [migrations.RunSQL(_FILL, migrations.RunSQL.noop)]
