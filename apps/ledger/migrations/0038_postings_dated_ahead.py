from django.db import migrations

# Read by `queries._locks`, under the lock: what is dated later than an instant was recorded around
# it or later, but for these. Django has no words for the condition. Made without locking out those
# who post.
_TO = """
    CREATE INDEX CONCURRENTLY posting_ahead
        ON ledger_posting (organization_id, account_id, effective_at)
     WHERE effective_at - recorded_at > INTERVAL '1 minute'
"""
_FRO = "DROP INDEX CONCURRENTLY posting_ahead"


class Migration(migrations.Migration):
    """What an account has still to come is found without its history (ADR 0186)."""

    atomic = False
    dependencies = [("ledger", "0037_two_postings_are_looked_at_one_by_one")]
    operations = [
        # However long it takes, and whatever an earlier try has left.
        migrations.RunSQL("SET statement_timeout = 0", migrations.RunSQL.noop),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS posting_ahead", migrations.RunSQL.noop),
        migrations.RunSQL(_TO, _FRO),
        migrations.RunSQL("RESET statement_timeout", migrations.RunSQL.noop),
    ]
