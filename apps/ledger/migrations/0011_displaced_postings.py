from django.db import migrations

# Read by `queries._history`: what is effective in a span was recorded in or around it, but for
# these few. Django has no words for the condition. Made without locking out those who post.
_TO = """
    CREATE INDEX CONCURRENTLY posting_displaced
        ON ledger_posting (organization_id, effective_at, account_id)
     WHERE recorded_at - effective_at NOT BETWEEN INTERVAL '-4 days' AND INTERVAL '4 days'
"""
_FRO = "DROP INDEX CONCURRENTLY posting_displaced"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("ledger", "0010_closed_in_order")]
    operations = [
        # However long it takes, and whatever an earlier try has left.
        migrations.RunSQL("SET statement_timeout = 0", migrations.RunSQL.noop),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS posting_displaced", migrations.RunSQL.noop),
        migrations.RunSQL(_TO, _FRO),
        migrations.RunSQL("RESET statement_timeout", migrations.RunSQL.noop),
    ]
