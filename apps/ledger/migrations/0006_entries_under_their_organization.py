from django.db import migrations

# One index instead of two: an entry is only ever looked for within its organisation, and pages of
# a small organisation must not walk past the entries of a large one (ADR 0056).
_TO = """
    ALTER TABLE ledger_journal_entry DROP CONSTRAINT ledger_journal_entry_pkey;
    ALTER TABLE ledger_journal_entry ADD CONSTRAINT ledger_journal_entry_pkey
        PRIMARY KEY (organization_id, id);
"""
_FRO = """
    ALTER TABLE ledger_journal_entry DROP CONSTRAINT ledger_journal_entry_pkey;
    ALTER TABLE ledger_journal_entry ADD CONSTRAINT ledger_journal_entry_pkey PRIMARY KEY (id);
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0005_postings_have_their_times")]
    operations = [migrations.RunSQL(_TO, _FRO)]
